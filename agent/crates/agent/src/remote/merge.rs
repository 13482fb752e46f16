//! One configuration from two: the host's file and what was pushed. Tables merge key by key; everything else, lists too, is
//! taken as a whole from whoever wins.

use std::fmt;

use toml::{Table, Value};

/// Whose keys win where both have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wins {
    /// The host's file: what was pushed fills in what it leaves out.
    File,
    /// What was pushed.
    Pushed,
}

/// Where a key of the merged configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The host's file.
    File,
    /// What was pushed.
    Pushed,
}

/// A key of the merged configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its tables and its name.
    pub path: Vec<String>,
    /// What it is set to.
    pub value: Value,
    /// Who set it.
    pub from: From,
}

/// Merges.
pub fn merge(file: &Table, pushed: &Table, wins: Wins) -> Table {
    let mut merged = file.clone();
    for (name, theirs) in pushed {
        let value = match (file.get(name), theirs) {
            (Some(Value::Table(ours)), Value::Table(theirs)) => Value::Table(merge(ours, theirs, wins)),
            (Some(ours), _) if wins == Wins::File => ours.clone(),
            _ => theirs.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

/// Every key of the merged configuration, by name, and where it comes from.
pub fn keys(file: &Table, pushed: &Table, wins: Wins) -> Vec<Key> {
    let mut found = Vec::new();
    walk(&merge(file, pushed, wins), Some(file), Some(pushed), wins, &mut Vec::new(), &mut found);
    found
}

fn walk(
    merged: &Table,
    file: Option<&Table>,
    pushed: Option<&Table>,
    wins: Wins,
    path: &mut Vec<String>,
    found: &mut Vec<Key>,
) {
    for (name, value) in merged {
        path.push(name.clone());
        let (ours, theirs) =
            (file.and_then(|table| table.get(name)), pushed.and_then(|table| table.get(name)));
        match value {
            Value::Table(table) if !table.is_empty() => {
                walk(
                    table,
                    ours.and_then(Value::as_table),
                    theirs.and_then(Value::as_table),
                    wins,
                    path,
                    found,
                );
            }
            _ => {
                let from = match (ours.is_some(), theirs.is_some()) {
                    (true, true) if wins == Wins::Pushed => From::Pushed,
                    (true, _) => From::File,
                    (false, _) => From::Pushed,
                };
                found.push(Key { path: path.clone(), value: value.clone(), from });
            }
        }
        path.pop();
    }
}

impl fmt::Display for Key {
    /// As a line of TOML, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.path.iter().enumerate() {
            let bare = !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            let dot = if at == 0 { "" } else { "." };
            match bare {
                true => write!(f, "{dot}{part}")?,
                false => write!(f, "{dot}{}", Value::String(part.clone()))?,
            }
        }
        write!(f, " = {}", self.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn tables_merge_key_by_key_and_lists_are_taken_whole() {
        let file =
            table("[agent]\nlog = \"info\"\nname = \"a\"\n[[fold.route]]\nmatch = \"a\"\nto = \"raw\"\n");
        let pushed = table("[agent]\nlog = \"debug\"\n[fold]\nroute = []\n[input.tcp]\n");
        let over = merge(&file, &pushed, Wins::Pushed);
        assert_eq!(over, table("[agent]\nlog = \"debug\"\nname = \"a\"\n[fold]\nroute = []\n[input.tcp]\n"));
        let under = merge(&file, &pushed, Wins::File);
        assert_eq!(under["agent"], file["agent"]);
        assert_eq!(under["fold"], file["fold"]);
        assert!(under["input"].get("tcp").is_some());
    }

    #[test]
    fn each_key_says_where_it_comes_from_and_can_be_read_again() {
        let file = table("[agent]\nlog = \"info\"\nname = \"a\"\n[fold.labels]\n\"a b\" = 1\n");
        let pushed = table("[agent]\nlog = \"debug\"\n[[spool.class]]\npriority = \"low\"\n[input.host]\n");
        let keys = keys(&file, &pushed, Wins::Pushed);
        let said: Vec<_> = keys.iter().map(|key| (key.to_string(), key.from)).collect();
        assert_eq!(
            said,
            [
                ("agent.log = \"debug\"".to_owned(), From::Pushed),
                ("agent.name = \"a\"".to_owned(), From::File),
                ("fold.labels.\"a b\" = 1".to_owned(), From::File),
                ("input.host = {}".to_owned(), From::Pushed),
                ("spool.class = [{ priority = \"low\" }]".to_owned(), From::Pushed),
            ]
        );
        let lines: String = said.iter().map(|(line, _)| format!("{line}\n")).collect();
        assert_eq!(table(&lines), merge(&file, &pushed, Wins::Pushed));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            "[a-c]{0,2}".prop_map(Value::String),
            vec("[a-c]".prop_map(Value::String), 0..3).prop_map(Value::Array),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            btree_map("[a-d]", inner, 0..4).prop_map(|map| Value::Table(map.into_iter().collect()))
        })
    }

    fn any_table() -> impl Strategy<Value = Table> {
        btree_map("[a-d]", value(), 0..4).prop_map(|map| map.into_iter().collect())
    }

    /// The paths of all that isn't a table with something in it.
    fn leaves(table: &Table, path: &str, out: &mut Vec<(String, Value)>) {
        for (name, value) in table {
            let path = format!("{path}.{name}");
            match value {
                Value::Table(inner) if !inner.is_empty() => leaves(inner, &path, out),
                other => out.push((path, other.clone())),
            }
        }
    }

    fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
        let mut parts = path.split('.').skip(1).peekable();
        let mut table = table;
        loop {
            let value = table.get(parts.next()?)?;
            if parts.peek().is_none() {
                return Some(value);
            }
            table = value.as_table()?;
        }
    }

    proptest! {
        #[test]
        fn merging_again_changes_nothing(file in any_table(), pushed in any_table(), file_wins: bool) {
            let wins = if file_wins { Wins::File } else { Wins::Pushed };
            let merged = merge(&file, &pushed, wins);
            prop_assert_eq!(&merge(&merged, &pushed, wins), &merged);
            prop_assert_eq!(&merge(&file, &Table::new(), wins), &file);
            prop_assert_eq!(&merge(&Table::new(), &pushed, wins), &pushed);
        }

        #[test]
        fn every_key_of_the_winner_stands_and_none_comes_from_nowhere(
            file in any_table(), pushed in any_table(), file_wins: bool
        ) {
            let wins = if file_wins { Wins::File } else { Wins::Pushed };
            let merged = merge(&file, &pushed, wins);
            let (winner, other) = if file_wins { (&file, &pushed) } else { (&pushed, &file) };
            let mut all = Vec::new();
            leaves(winner, "", &mut all);
            for (path, value) in all {
                let empty = value.as_table().is_some();
                prop_assert!(empty || get(&merged, &path) == Some(&value), "{} of the winner", path);
            }
            for key in keys(&file, &pushed, wins) {
                let path: String = key.path.iter().map(|part| format!(".{part}")).collect();
                let of = if key.from == From::File { &file } else { &pushed };
                prop_assert_eq!(get(of, &path), Some(&key.value), "{}", path);
                prop_assert!(get(winner, &path).is_none() || get(winner, &path) == Some(&key.value));
                let _ = other;
            }
        }
    }
}
