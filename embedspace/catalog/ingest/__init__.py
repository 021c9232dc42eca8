"""From files, folders and manifests to rows of the catalog: scan, decode, encode, store, forget."""
