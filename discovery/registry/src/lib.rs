//! Many sources in, one Catalog out.
