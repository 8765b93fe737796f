//! The east-west gateway: offers this cluster's exports, brings in the peers', forwards bytes.
