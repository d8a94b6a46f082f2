"""The strategies by name; each is one module with one function ``switches(cut, rule, key, lexicons, before)``, which gives the records in order of place.

``before`` holds the records of the policy's earlier rules; a word that they changed is not changed again.
"""

from csrerank.codeswitch import bilingual, multilingual, titles, translate

STRATEGIES = {
    "bilingual": bilingual.switches,
    "multilingual": multilingual.switches,
    "titles": titles.switches,
    "translate": translate.switches,
}
