"""Writing code-switched collections as files: fixed shards of records, the same bytes whoever writes them, with a data card; and showing a few switched texts."""
