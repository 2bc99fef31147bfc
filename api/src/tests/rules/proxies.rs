//! Rules of proxies: the traffic that they take, and when their workloads are restarted.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        message: "includeIPRanges must be [\"*\"] or a list of CIDRs such as 10.0.0.0/8",
        passes: &["proxy: {includeIPRanges: ['*']}", "proxy: {includeIPRanges: [10.0.0.0/8, 'fd00::/8']}"],
        refuses: &["proxy: {includeIPRanges: ['*', 10.0.0.0/8]}", "proxy: {includeIPRanges: [10.0.0.0]}"],
    },
    Case {
        message: "excludeIPRanges must be a list of CIDRs such as 10.0.0.0/8",
        passes: &["proxy: {excludeIPRanges: [169.254.169.254/32]}"],
        refuses: &["proxy: {excludeIPRanges: ['*']}", "proxy: {excludeIPRanges: [metadata.internal]}"],
    },
    Case {
        message: "includeInboundPorts must be [\"*\"] or a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {includeInboundPorts: ['*']}", "proxy: {includeInboundPorts: ['1', '65535']}"],
        refuses: &[
            "proxy: {includeInboundPorts: ['*', '80']}",
            "proxy: {includeInboundPorts: ['0']}",
            "proxy: {includeInboundPorts: ['65536']}",
            "proxy: {includeInboundPorts: ['http']}",
        ],
    },
    Case {
        message: "excludeInboundPorts must be a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {excludeInboundPorts: ['9100']}"],
        refuses: &["proxy: {excludeInboundPorts: ['*']}", "proxy: {excludeInboundPorts: ['99999']}"],
    },
    Case {
        message: "includeOutboundPorts must be a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {includeOutboundPorts: ['3306']}"],
        refuses: &["proxy: {includeOutboundPorts: ['*']}", "proxy: {includeOutboundPorts: ['080']}"],
    },
    Case {
        message: "excludeOutboundPorts must be a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {excludeOutboundPorts: ['5432']}"],
        refuses: &["proxy: {excludeOutboundPorts: ['*']}", "proxy: {excludeOutboundPorts: ['-1']}"],
    },
    Case {
        message: "start must be a time of day between \"00:00\" and \"23:59\"",
        passes: &["proxy: {update: {mode: Restart, windows: [{start: '22:00', end: '04:30'}]}}"],
        refuses: &[
            "proxy: {update: {windows: [{start: '24:00', end: '04:30'}]}}",
            "proxy: {update: {windows: [{start: '9:00', end: '10:00'}]}}",
        ],
    },
    Case {
        message: "end must be a time of day between \"00:00\" and \"23:59\"",
        passes: &["proxy: {update: {windows: [{start: '00:00', end: '23:59', days: [Saturday, Sunday]}]}}"],
        refuses: &["proxy: {update: {windows: [{start: '22:00', end: '04:60'}]}}"],
    },
    Case {
        message: "a window's start and end are the same; leave windows out if restarts may begin at any time",
        passes: &["proxy: {update: {windows: [{start: '22:00', end: '22:01', timeZone: Europe/Berlin}]}}"],
        refuses: &["proxy: {update: {windows: [{start: '22:00', end: '22:00'}]}}"],
    },
];
