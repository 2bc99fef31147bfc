//! PURE: from a spec to validated inputs, objects, a plan and a status. Nothing in this room does I/O, reads a clock or
//! draws a random number; what it needs of the world comes as an argument.

pub mod add_ons;
pub mod authority;
pub mod beside;
pub mod drift;
pub mod effective;
pub mod health;
pub mod images;
pub mod kind;
pub mod live;
pub mod merge;
pub mod node;
pub mod node_agents;
pub mod object;
pub mod owned_keys;
pub mod patch;
pub mod plan;
pub mod pod_security;
pub mod probe;
pub mod problem;
pub mod proxy_inputs;
pub mod reach;
pub mod render;
pub mod revision;
pub mod revisions;
pub mod rights;
pub mod rollup;
pub mod tags;
pub mod texts;
pub mod uninstall;
pub mod upgrade;
pub mod validate;
pub mod validated;
pub mod values;
pub mod words;
