//! The operator on real components: each test has a cluster of its own, with the operator running in it from
//! config/, as its own ServiceAccount.

#![allow(
    clippy::indexing_slicing,
    clippy::default_trait_access,
    clippy::similar_names,
    reason = "a test that panics is a test that fails"
)]

mod add_ons;
mod adoption;
mod alerts;
mod bad_input;
mod check;
mod cli;
mod cluster_objects;
mod crash;
mod documents;
mod gateways;
mod gitops;
mod healing;
mod history;
mod image;
mod images;
mod install;
mod install_chart;
mod install_manifest;
mod leadership;
mod metrics;
mod node_agents;
mod node_ports;
mod oci;
mod odd_registry;
mod plan;
mod platforms;
mod proxies;
mod readiness;
mod registry_catalog;
mod render;
mod revisions;
mod rights;
mod schema;
mod silence;
mod stalling;
mod uninstall;
mod uninstall_command;
mod upgrades;
