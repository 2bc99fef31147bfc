//! Sets of rights: what one covers, what is left of one beside another, and the shortest list of RBAC rules for it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

/// A set of words that a rule has: verbs, resources, names.
pub(super) type Words = BTreeSet<String>;

/// What verbs are allowed on: one resource, or one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// Objects of one resource; all of them when `names` is empty.
    Resource { group: String, resource: String, names: Words },
    /// A path that is no resource.
    Path(String),
}

/// A set of rights, kept apart per target so that what overlaps can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(BTreeMap<Target, Words>);

/// Whether a word of a rule stands for another.
fn stands_for(held: &str, wanted: &str) -> bool {
    held == "*" || held == wanted
}

impl Target {
    /// Whether a rule for `self` speaks of `other` too. RBAC's `*` means every subresource as well.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Resource { group, resource, names },
                Self::Resource { group: other_group, resource: other_resource, names: other_names },
            ) => {
                stands_for(group, other_group)
                    && stands_for(resource, other_resource)
                    && (names.is_empty() || (!other_names.is_empty() && other_names.is_subset(names)))
            }
            (Self::Path(path), Self::Path(other)) => {
                path == other || path.strip_suffix('*').is_some_and(|prefix| other.starts_with(prefix))
            }
            _ => false,
        }
    }
}

impl Rules {
    /// Adds verbs on a target.
    pub(super) fn add(&mut self, target: Target, verbs: impl IntoIterator<Item = String>) {
        self.0.entry(target).or_default().extend(verbs);
    }

    /// Adds all of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        for (target, verbs) in &other.0 {
            self.add(target.clone(), verbs.iter().cloned());
        }
    }

    /// Adds what a rule of a role allows.
    pub(super) fn add_policy(&mut self, rule: &PolicyRule) {
        let names: Words = rule.resource_names.iter().flatten().cloned().collect();
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let target =
                    Target::Resource { group: group.clone(), resource: resource.clone(), names: names.clone() };
                self.add(target, rule.verbs.iter().cloned());
            }
        }
        for path in rule.non_resource_urls.iter().flatten() {
            self.add(Target::Path(path.clone()), rule.verbs.iter().cloned());
        }
    }

    /// Whether a verb on a target is allowed.
    pub(super) fn allow(&self, target: &Target, verb: &str) -> bool {
        self.0.iter().any(|(held, verbs)| held.covers(target) && verbs.iter().any(|held| stands_for(held, verb)))
    }

    /// What is left of the set for somebody who holds `held` already.
    pub(super) fn without(&self, held: &Self) -> Self {
        self.filtered(|target, verb| !held.allow(target, verb))
    }

    /// The same rights without those that another entry of the set includes.
    pub(super) fn reduced(&self) -> Self {
        self.filtered(|target, verb| {
            !self.0.iter().any(|(held, verbs)| {
                let wider = held != target && verbs.contains(verb);
                held.covers(target) && (wider || (verb != "*" && verbs.contains("*")))
            })
        })
    }

    fn filtered(&self, keep: impl Fn(&Target, &str) -> bool) -> Self {
        let kept = self.0.iter().map(|(target, verbs)| {
            let verbs: Words = verbs.iter().filter(|verb| keep(target, verb)).cloned().collect();
            (target.clone(), verbs)
        });
        Self(kept.filter(|(_, verbs)| !verbs.is_empty()).collect())
    }

    /// Every verb on every target.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Target, &str)> {
        self.0.iter().flat_map(|(target, verbs)| verbs.iter().map(move |verb| (target, verb.as_str())))
    }

    /// The set as a role's rules, sorted: targets with the same verbs share a rule.
    pub(super) fn policies(&self) -> Vec<PolicyRule> {
        let mut by_group: BTreeMap<(&str, &Words, &Words), Words> = BTreeMap::new();
        let mut by_verbs: BTreeMap<&Words, Words> = BTreeMap::new();
        for (target, verbs) in &self.0 {
            match target {
                Target::Resource { group, resource, names } => {
                    by_group.entry((group, names, verbs)).or_default().insert(resource.clone());
                }
                Target::Path(path) => {
                    by_verbs.entry(verbs).or_default().insert(path.clone());
                }
            }
        }
        let mut merged: BTreeMap<(Words, &Words, &Words), Words> = BTreeMap::new();
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
        // Groups first, so that a reader finds the rules of one group together.
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

    fn rules(policies: Value) -> Rules {
        let mut rules = Rules::default();
        let policies: Vec<PolicyRule> = serde_json::from_value(policies).unwrap();
        for policy in &policies {
            rules.add_policy(policy);
        }
        rules
    }

    fn short(rules: &Rules) -> Value {
        serde_json::to_value(rules.reduced().policies()).unwrap()
    }

    #[test]
    fn targets_with_the_same_verbs_share_a_rule_whatever_order_they_came_in() {
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
    fn what_a_wildcard_or_an_unnamed_rule_includes_is_not_said_again() {
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
    fn a_named_rule_or_another_group_does_not_stand_for_all() {
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
    fn only_what_is_not_held_is_left() {
        let wanted = rules(json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"]}]));
        let held = rules(json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update"]}]));
        assert_eq!(
            short(&wanted.without(&held)),
            json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}])
        );
        assert!(wanted.without(&wanted).policies().is_empty());
    }

    #[test]
    fn paths_that_are_no_resources_are_kept() {
        let paths = json!([{"nonResourceURLs": ["/debug/*", "/debug/x", "/metrics"], "verbs": ["get"]}]);
        assert_eq!(short(&rules(paths)), json!([{"nonResourceURLs": ["/debug/*", "/metrics"], "verbs": ["get"]}]));
    }
}
