//! True sentences pass, untrue ones do not: by table.
