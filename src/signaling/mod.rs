//! Sans-IO signaling: rooms, peers and the dialects that speak to them.
