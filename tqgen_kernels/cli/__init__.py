"""The `tqgen` command. One module a command; `main` names them all and imports none."""
