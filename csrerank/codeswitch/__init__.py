"""Artificial code-switching (Litschko, Artemova, Plank 2023): a policy says which words of a text change into which languages, and each change is recorded."""

from csrerank.codeswitch.policy import Policy, Rule, Side
from csrerank.codeswitch.switching import rebuilt, switch
from csrerank.codeswitch.tables import Lexicons, Switch

__all__ = ["Lexicons", "Policy", "Rule", "Side", "Switch", "rebuilt", "switch"]
