//! Tests of the operator: each test has its own cluster, in which the operator runs from config/ with its
//! ServiceAccount.

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
mod certificate_authority;
mod check;
mod cli;
mod cluster_scoped_resources;
mod cni_ztunnel;
mod crash;
mod doc_commands;
mod drift;
mod dry_run;
mod faults;
mod gateways;
mod gitops;
mod history;
mod hostile_objects;
mod idle;
mod image;
mod images;
mod install;
mod install_chart;
mod install_manifest;
mod leadership;
mod loaded_configuration;
mod metrics;
mod namespaces;
mod node_ports;
mod oci;
mod ownership;
mod permissions;
mod plan;
mod platforms;
mod pod_causes;
mod proxies;
mod readiness;
mod registry_catalog;
mod registry_protocol;
mod render;
mod revisions;
mod schema;
mod stalled;
mod uninstall;
mod uninstall_command;
mod unknown_keys;
mod unreadable_peer;
mod upgrades;
mod waiting_states;
