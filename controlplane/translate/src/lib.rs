//! Catalog and Intent in, one proxy's xDS snapshot out.
