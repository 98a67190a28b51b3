//! Sessions on this machine, and at a local AgentBay server.
