//! Sets of RBAC rules: coverage, difference, and the shortest list of PolicyRules for a set.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

/// A set of verbs, resources or object names in a rule.
pub(super) type NameSet = BTreeSet<String>;

/// What a rule applies to: one resource, or one non-resource URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RuleTarget {
    /// Objects of a resource; all of them when `names` is empty.
    Resource { group: String, resource: String, names: NameSet },
    /// A non-resource URL.
    Path(String),
}

/// A set of rules: the verbs of each target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleSet(BTreeMap<RuleTarget, NameSet>);

/// Whether a word of a rule covers another.
fn word_covers(granted: &str, wanted: &str) -> bool {
    granted == "*" || granted == wanted
}

impl RuleTarget {
    /// Whether a rule for `self` applies to `other`, too. RBAC's `*` covers every subresource.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Resource { group, resource, names },
                Self::Resource { group: other_group, resource: other_resource, names: other_names },
            ) => {
                word_covers(group, other_group)
                    && word_covers(resource, other_resource)
                    && (names.is_empty() || (!other_names.is_empty() && other_names.is_subset(names)))
            }
            (Self::Path(path), Self::Path(other)) => {
                path == other || path.strip_suffix('*').is_some_and(|prefix| other.starts_with(prefix))
            }
            _ => false,
        }
    }
}

impl RuleSet {
    /// Adds verbs on a target.
    pub(super) fn add(&mut self, target: RuleTarget, verbs: impl IntoIterator<Item = String>) {
        self.0.entry(target).or_default().extend(verbs);
    }

    /// Adds all rules of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        for (target, verbs) in &other.0 {
            self.add(target.clone(), verbs.iter().cloned());
        }
    }

    /// Adds a rule of a role.
    pub(super) fn add_policy(&mut self, rule: &PolicyRule) {
        let names: NameSet = rule.resource_names.iter().flatten().cloned().collect();
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let target =
                    RuleTarget::Resource { group: group.clone(), resource: resource.clone(), names: names.clone() };
                self.add(target, rule.verbs.iter().cloned());
            }
        }
        for path in rule.non_resource_urls.iter().flatten() {
            self.add(RuleTarget::Path(path.clone()), rule.verbs.iter().cloned());
        }
    }

    /// Whether a verb on a target is allowed.
    pub(super) fn allow(&self, target: &RuleTarget, verb: &str) -> bool {
        self.0
            .iter()
            .any(|(granted, verbs)| granted.covers(target) && verbs.iter().any(|granted| word_covers(granted, verb)))
    }

    /// The set without the rules that `granted` covers.
    pub(super) fn without(&self, granted: &Self) -> Self {
        self.filtered(|target, verb| !granted.allow(target, verb))
    }

    /// The same set without rules that another rule of it covers.
    pub(super) fn reduced(&self) -> Self {
        self.filtered(|target, verb| {
            !self.0.iter().any(|(granted, verbs)| {
                let wider = granted != target && verbs.contains(verb);
                granted.covers(target) && (wider || (verb != "*" && verbs.contains("*")))
            })
        })
    }

    fn filtered(&self, keep: impl Fn(&RuleTarget, &str) -> bool) -> Self {
        let remaining = self.0.iter().map(|(target, verbs)| {
            let verbs: NameSet = verbs.iter().filter(|verb| keep(target, verb)).cloned().collect();
            (target.clone(), verbs)
        });
        Self(remaining.filter(|(_, verbs)| !verbs.is_empty()).collect())
    }

    /// Every verb on every target.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RuleTarget, &str)> {
        self.0.iter().flat_map(|(target, verbs)| verbs.iter().map(move |verb| (target, verb.as_str())))
    }

    /// The set as a role's rules, sorted: targets with the same verbs share a rule.
    pub(super) fn policies(&self) -> Vec<PolicyRule> {
        let mut by_group: BTreeMap<(&str, &NameSet, &NameSet), NameSet> = BTreeMap::new();
        let mut by_verbs: BTreeMap<&NameSet, NameSet> = BTreeMap::new();
        for (target, verbs) in &self.0 {
            match target {
                RuleTarget::Resource { group, resource, names } => {
                    by_group.entry((group, names, verbs)).or_default().insert(resource.clone());
                }
                RuleTarget::Path(path) => {
                    by_verbs.entry(verbs).or_default().insert(path.clone());
                }
            }
        }
        let mut merged: BTreeMap<(NameSet, &NameSet, &NameSet), NameSet> = BTreeMap::new();
        for ((group, names, verbs), resources) in by_group {
            merged.entry((resources, names, verbs)).or_default().insert(group.to_owned());
        }
        let resources = merged.into_iter().map(|((resources, names, verbs), groups)| PolicyRule {
            api_groups: Some(groups.into_iter().collect()),
            resources: Some(resources.into_iter().collect()),
            resource_names: (!names.is_empty()).then(|| names.iter().cloned().collect()),
            verbs: verbs.iter().cloned().collect(),
            ..PolicyRule::default()
        });
        let paths = by_verbs.into_iter().map(|(verbs, paths)| PolicyRule {
            non_resource_urls: Some(paths.into_iter().collect()),
            verbs: verbs.iter().cloned().collect(),
            ..PolicyRule::default()
        });
        let mut rules: Vec<PolicyRule> = resources.chain(paths).collect();
        // Sort by group first, so that the rules of one group are adjacent.
        rules.sort_by_cached_key(|rule| {
            (rule.api_groups.clone(), rule.resources.clone(), rule.resource_names.clone(), rule.verbs.clone())
        });
        rules
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(policies: Value) -> RuleSet {
        let mut rules = RuleSet::default();
        let policies: Vec<PolicyRule> = serde_json::from_value(policies).unwrap();
        for policy in &policies {
            rules.add_policy(policy);
        }
        rules
    }

    fn short(rules: &RuleSet) -> Value {
        serde_json::to_value(rules.reduced().policies()).unwrap()
    }

    #[test]
    fn targets_with_same_verbs_share_rule() {
        let one = json!({"apiGroups": ["a", "b"], "resources": ["y", "x"], "verbs": ["list", "get"]});
        let merged = json!([{"apiGroups": ["a", "b"], "resources": ["x", "y"], "verbs": ["get", "list"]}]);
        assert_eq!(short(&rules(json!([one]))), merged);
        let apart = json!([
            {"apiGroups": ["b"], "resources": ["x", "y"], "verbs": ["list"]},
            {"apiGroups": ["a"], "resources": ["x"], "verbs": ["get", "list"]},
            {"apiGroups": ["b"], "resources": ["x", "y"], "verbs": ["get"]},
            {"apiGroups": ["a"], "resources": ["y"], "verbs": ["list", "get"]},
        ]);
        assert_eq!(short(&rules(apart)), merged);
    }

    #[test]
    fn drops_rules_covered_by_broader_rule() {
        let wide = json!({"apiGroups": ["a"], "resources": ["*"], "verbs": ["get", "list"]});
        let narrow = json!({"apiGroups": ["a"], "resources": ["x/status"], "verbs": ["get", "update"]});
        assert_eq!(
            short(&rules(json!([wide, narrow]))),
            json!([wide, {"apiGroups": ["a"], "resources": ["x/status"], "verbs": ["update"]}])
        );
        let all = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]});
        let named = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["get"]});
        assert_eq!(short(&rules(json!([all, named]))), json!([all]));
        let every = json!([{"apiGroups": ["a"], "resources": ["x"], "verbs": ["*", "get"]}]);
        assert_eq!(short(&rules(every)), json!([{"apiGroups": ["a"], "resources": ["x"], "verbs": ["*"]}]));
    }

    #[test]
    fn named_rule_does_not_cover_all_names() {
        let both = json!([
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]},
            {"apiGroups": ["a"], "resources": ["secrets"], "verbs": ["get"]},
        ]);
        let named = json!([
            {"apiGroups": ["", "a"], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["get"]},
        ]);
        assert_eq!(rules(both.clone()).without(&rules(named)), rules(both));
    }

    #[test]
    fn difference_keeps_only_missing_verbs() {
        let wanted = rules(json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"]}]));
        let granted = rules(json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update"]}]));
        assert_eq!(
            short(&wanted.without(&granted)),
            json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}])
        );
        assert!(wanted.without(&wanted).policies().is_empty());
    }

    #[test]
    fn keeps_non_resource_urls() {
        let paths = json!([{"nonResourceURLs": ["/debug/*", "/debug/x", "/metrics"], "verbs": ["get"]}]);
        assert_eq!(short(&rules(paths)), json!([{"nonResourceURLs": ["/debug/*", "/metrics"], "verbs": ["get"]}]));
    }
}
