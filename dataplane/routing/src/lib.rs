//! Decides where a request goes: route, balance, eject, retry; pure.
