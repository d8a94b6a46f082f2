"""Commands that have options enough for a module of their own; ``cli`` puts them into the group."""
