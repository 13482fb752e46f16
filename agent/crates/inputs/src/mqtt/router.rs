//! Which sessions a topic is for.
//!
//! [`Router`] is all the front knows of matching; [`Tree`] is the one we use: a tree of topic levels
//! whose nodes hold the subscriptions that end there. It is walked under a read lock, frees what is
//! unsubscribed, and says *before* a message is acknowledged which persistent sessions must keep it.
//! (rumqttd's router can do neither: docs/decisions/0001-durable-front.md.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;

use super::session::Session;
use super::topic::Filter;

/// How one session wants one filter's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Highest quality of service.
    pub qos: u8,
    /// Not what the session's own client publishes.
    pub no_local: bool,
    /// Keep the publisher's retain flag.
    pub retain_as_published: bool,
    /// v5 subscription identifier; 0 is none.
    pub id: u32,
}

/// One session that gets a message, once, however many of its filters match.
#[derive(Clone, Debug)]
pub struct Target {
    /// The session.
    pub session: Arc<Session>,
    /// Highest of the matching subscriptions.
    pub qos: u8,
    /// Any of them wants the retain flag kept.
    pub retain_as_published: bool,
    /// Their identifiers.
    pub ids: Vec<u32>,
}

/// Matches topics to subscriptions.
pub trait Router: Send + Sync {
    /// Enters or replaces a subscription; true when it is new.
    fn subscribe(&self, filter: Filter<'_>, session: &Arc<Session>, options: Options) -> bool;
    /// Takes one out; false when there was none.
    fn unsubscribe(&self, filter: Filter<'_>, client: &str) -> bool;
    /// Appends the sessions that a message on `name` by `publisher` is for.
    fn route(&self, name: &str, publisher: &str, out: &mut Vec<Target>);
    /// Subscriptions held.
    fn len(&self) -> usize;
    /// True when nobody subscribed to anything: publishing needs no lookup.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    options: Options,
}

/// `$share/<name>/<filter>`: each message goes to one of the members.
#[derive(Debug)]
struct Group {
    name: Box<str>,
    members: Vec<Entry>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Node {
    below: HashMap<Box<str>, Node, ahash::RandomState>,
    plain: Vec<Entry>,
    groups: Vec<Group>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.below.is_empty() && self.plain.is_empty() && self.groups.is_empty()
    }

    fn enter(&mut self, group: Option<&str>, entry: Entry) -> bool {
        let entries = match group {
            None => &mut self.plain,
            Some(name) => {
                let at = self.groups.iter().position(|group| &*group.name == name).unwrap_or_else(|| {
                    self.groups.push(Group {
                        name: name.into(),
                        members: Vec::new(),
                        turn: AtomicUsize::new(0),
                    });
                    self.groups.len() - 1
                });
                &mut self.groups[at].members
            }
        };
        match entries.iter_mut().find(|there| there.session.client == entry.session.client) {
            Some(there) => {
                *there = entry;
                false
            }
            None => {
                entries.push(entry);
                true
            }
        }
    }

    fn leave(&mut self, group: Option<&str>, client: &str) -> bool {
        let remove = |entries: &mut Vec<Entry>| {
            let before = entries.len();
            entries.retain(|entry| &*entry.session.client != client);
            entries.len() < before
        };
        match group {
            None => remove(&mut self.plain),
            Some(name) => {
                let removed = self
                    .groups
                    .iter_mut()
                    .find(|group| &*group.name == name)
                    .is_some_and(|group| remove(&mut group.members));
                self.groups.retain(|group| !group.members.is_empty());
                removed
            }
        }
    }

    fn collect(&self, name: &str, publisher: &str, out: &mut Vec<Target>) {
        for entry in &self.plain {
            if !(entry.options.no_local && &*entry.session.client == publisher) {
                add(out, entry);
            }
        }
        for group in &self.groups {
            if let Some(entry) = group.next(name) {
                add(out, entry);
            }
        }
    }
}

impl Group {
    /// The next member that is connected; with none connected the next one whose session keeps it. Who may not
    /// read the message is passed over: it would take the message from those who may.
    fn next(&self, name: &str) -> Option<&Entry> {
        let n = self.members.len();
        let turn = self.turn.fetch_add(1, Relaxed);
        let in_turn = || {
            (0..n)
                .map(|at| &self.members[turn.wrapping_add(at) % n])
                .filter(|entry| entry.session.may_read(name))
        };
        in_turn().find(|entry| entry.session.is_connected()).or_else(|| in_turn().next())
    }
}

fn add(out: &mut Vec<Target>, entry: &Entry) {
    let Options { qos, retain_as_published, id, .. } = entry.options;
    let ids = if id == 0 { Vec::new() } else { vec![id] };
    match out.iter_mut().find(|target| Arc::ptr_eq(&target.session, &entry.session)) {
        None => out.push(Target { session: Arc::clone(&entry.session), qos, retain_as_published, ids }),
        Some(target) => {
            target.qos = target.qos.max(qos);
            target.retain_as_published |= retain_as_published;
            target.ids.extend(ids);
        }
    }
}

/// The tree of topic levels.
#[derive(Debug, Default)]
pub struct Tree {
    root: RwLock<Node>,
    count: AtomicUsize,
}

impl Tree {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Router for Tree {
    fn subscribe(&self, filter: Filter<'_>, session: &Arc<Session>, options: Options) -> bool {
        let mut root = self.root.write();
        let mut node = &mut *root;
        for level in filter.filter.split('/') {
            // `get_mut` first would borrow for the whole loop; an entry costs one small allocation.
            node = node.below.entry(level.into()).or_default();
        }
        let new = node.enter(filter.group, Entry { session: Arc::clone(session), options });
        if new {
            self.count.fetch_add(1, Relaxed);
        }
        new
    }

    fn unsubscribe(&self, filter: Filter<'_>, client: &str) -> bool {
        // As deep as the filter has levels, which `topic::MAX_LEVELS` bounds.
        fn prune(
            node: &mut Node,
            mut levels: std::str::Split<'_, char>,
            group: Option<&str>,
            client: &str,
        ) -> bool {
            let Some(level) = levels.next() else { return node.leave(group, client) };
            let Some(next) = node.below.get_mut(level) else { return false };
            let removed = prune(next, levels, group, client);
            if next.is_empty() {
                node.below.remove(level);
            }
            removed
        }
        let removed = prune(&mut self.root.write(), filter.filter.split('/'), filter.group, client);
        if removed {
            self.count.fetch_sub(1, Relaxed);
        }
        removed
    }

    fn route(&self, name: &str, publisher: &str, out: &mut Vec<Target>) {
        let root = self.root.read();
        let mut levels = name.split('/');
        let first = levels.next().unwrap_or_default();
        let wild = !name.starts_with('$');
        walk(&root, (name, first), &levels, wild, publisher, out);
    }

    fn len(&self) -> usize {
        self.count.load(Relaxed)
    }
}

/// As deep as the deepest filter, which `topic::MAX_LEVELS` bounds.
fn walk(
    node: &Node,
    (name, level): (&str, &str),
    rest: &std::str::Split<'_, char>,
    wild: bool,
    publisher: &str,
    out: &mut Vec<Target>,
) {
    if wild && let Some(all) = node.below.get("#") {
        all.collect(name, publisher, out);
    }
    let plus = if wild { node.below.get("+") } else { None };
    for next in [node.below.get(level), plus].into_iter().flatten() {
        let mut rest = rest.clone();
        match rest.next() {
            Some(level) => walk(next, (name, level), &rest, true, publisher, out),
            None => {
                next.collect(name, publisher, out);
                // `a/#` matches `a` too.
                if let Some(all) = next.below.get("#") {
                    all.collect(name, publisher, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic;
    use proptest::prelude::*;

    fn session(client: &str) -> Arc<Session> {
        Session::transient(client.into(), None, &Default::default())
    }

    fn plain(filter: &str) -> Filter<'_> {
        Filter::parse(filter).unwrap()
    }

    fn clients(tree: &Tree, name: &str) -> Vec<String> {
        let mut out = Vec::new();
        tree.route(name, "publisher", &mut out);
        let mut clients: Vec<_> = out.iter().map(|target| target.session.client.to_string()).collect();
        clients.sort();
        clients
    }

    #[test]
    fn overlapping_filters_give_one_delivery_with_the_highest_qos_and_all_ids() {
        let tree = Tree::new();
        let a = session("a");
        tree.subscribe(plain("x/#"), &a, Options { qos: 1, id: 7, ..Options::default() });
        tree.subscribe(plain("x/+"), &a, Options { qos: 2, id: 8, ..Options::default() });
        let mut out = Vec::new();
        tree.route("x/y", "p", &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].qos, 2);
        let mut ids = out[0].ids.clone();
        ids.sort_unstable();
        assert_eq!(ids, [7, 8]);
    }

    #[test]
    fn no_local_skips_the_publisher_only() {
        let tree = Tree::new();
        tree.subscribe(plain("x"), &session("publisher"), Options { no_local: true, ..Options::default() });
        tree.subscribe(plain("x"), &session("b"), Options { no_local: true, ..Options::default() });
        assert_eq!(clients(&tree, "x"), ["b"]);
    }

    #[test]
    fn a_share_group_takes_turns_among_its_connected_members() {
        let tree = Tree::new();
        let members: Vec<_> = ["a", "b", "c"].map(session).into();
        for member in &members {
            tree.subscribe(plain("$share/g/x"), member, Options::default());
        }
        members[0].set_connected(true);
        members[2].set_connected(true);
        let mut seen: Vec<_> = (0..6).flat_map(|_| clients(&tree, "x")).collect();
        assert_eq!(seen.len(), 6);
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["a", "c"]);
        for member in &members {
            assert!(tree.unsubscribe(plain("$share/g/x"), &member.client));
        }
        assert!(clients(&tree, "x").is_empty());
        assert!(tree.root.read().is_empty(), "nodes are freed");
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_matching_one_filter_at_a_time(
            filters in prop::collection::btree_set("([ab+$]/){0,2}([ab+#]|\\$SYS)", 0..12),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            name in "(\\$SYS|[ab])(/[ab]){0,3}",
        ) {
            let tree = Tree::new();
            let mut filters: Vec<_> = filters.into_iter().filter(|f| topic::check_filter(f).is_ok()).collect();
            for filter in &filters {
                let new = tree.subscribe(plain(filter), &session(filter), Options::default());
                prop_assert!(new);
            }
            for at in removed {
                if !filters.is_empty() {
                    let filter = filters.remove(at.index(filters.len()));
                    prop_assert!(tree.unsubscribe(plain(&filter), &filter));
                }
            }
            let mut expected: Vec<_> = filters.iter().filter(|f| topic::matches(f, &name)).cloned().collect();
            expected.sort();
            prop_assert_eq!(clients(&tree, &name), expected);
            prop_assert_eq!(tree.len(), filters.len());
        }
    }
}
