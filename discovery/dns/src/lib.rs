//! Names to answers from the name table, or forwarded to the system's resolvers.
