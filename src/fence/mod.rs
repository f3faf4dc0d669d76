//! The belts: hardware watchdog, address lease, egress gate, reset. They do what they are told and report.
