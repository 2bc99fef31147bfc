//! Test cases of the rules for traffic redirection and restarts of proxies.

use super::RuleCase;

pub(super) const CASES: &[RuleCase] = &[
    RuleCase {
        message: "includeIPRanges must be [\"*\"] or a list of CIDRs such as 10.0.0.0/8",
        accepted: &["proxy: {includeIPRanges: ['*']}", "proxy: {includeIPRanges: [10.0.0.0/8, 'fd00::/8']}"],
        rejected: &["proxy: {includeIPRanges: ['*', 10.0.0.0/8]}", "proxy: {includeIPRanges: [10.0.0.0]}"],
    },
    RuleCase {
        message: "excludeIPRanges must be a list of CIDRs such as 10.0.0.0/8",
        accepted: &["proxy: {excludeIPRanges: [169.254.169.254/32]}"],
        rejected: &["proxy: {excludeIPRanges: ['*']}", "proxy: {excludeIPRanges: [metadata.internal]}"],
    },
    RuleCase {
        message: "includeInboundPorts must be [\"*\"] or a list of ports between \"1\" and \"65535\"",
        accepted: &["proxy: {includeInboundPorts: ['*']}", "proxy: {includeInboundPorts: ['1', '65535']}"],
        rejected: &[
            "proxy: {includeInboundPorts: ['*', '80']}",
            "proxy: {includeInboundPorts: ['0']}",
            "proxy: {includeInboundPorts: ['65536']}",
            "proxy: {includeInboundPorts: ['http']}",
        ],
    },
    RuleCase {
        message: "excludeInboundPorts must be a list of ports between \"1\" and \"65535\"",
        accepted: &["proxy: {excludeInboundPorts: ['9100']}"],
        rejected: &["proxy: {excludeInboundPorts: ['*']}", "proxy: {excludeInboundPorts: ['99999']}"],
    },
    RuleCase {
        message: "includeOutboundPorts must be a list of ports between \"1\" and \"65535\"",
        accepted: &["proxy: {includeOutboundPorts: ['3306']}"],
        rejected: &["proxy: {includeOutboundPorts: ['*']}", "proxy: {includeOutboundPorts: ['080']}"],
    },
    RuleCase {
        message: "excludeOutboundPorts must be a list of ports between \"1\" and \"65535\"",
        accepted: &["proxy: {excludeOutboundPorts: ['5432']}"],
        rejected: &["proxy: {excludeOutboundPorts: ['*']}", "proxy: {excludeOutboundPorts: ['-1']}"],
    },
    RuleCase {
        message: "start must be a time of day between \"00:00\" and \"23:59\"",
        accepted: &["proxy: {update: {mode: Restart, windows: [{start: '22:00', end: '04:30'}]}}"],
        rejected: &[
            "proxy: {update: {windows: [{start: '24:00', end: '04:30'}]}}",
            "proxy: {update: {windows: [{start: '9:00', end: '10:00'}]}}",
        ],
    },
    RuleCase {
        message: "end must be a time of day between \"00:00\" and \"23:59\"",
        accepted: &["proxy: {update: {windows: [{start: '00:00', end: '23:59', days: [Saturday, Sunday]}]}}"],
        rejected: &["proxy: {update: {windows: [{start: '22:00', end: '04:60'}]}}"],
    },
    RuleCase {
        message: "start and end of a window must differ; omit windows to allow restarts at any time",
        accepted: &["proxy: {update: {windows: [{start: '22:00', end: '22:01', timeZone: Europe/Berlin}]}}"],
        rejected: &["proxy: {update: {windows: [{start: '22:00', end: '22:00'}]}}"],
    },
];
