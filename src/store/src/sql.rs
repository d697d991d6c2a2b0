//! Statements for both engines: values to bind, and verbs that are one transaction each.
//!
//! Text is put together from constants of this crate only; everything from outside is bound. Both
//! engines understand `$1`, and the schema has only three types, so that most text is shared. What
//! differs is how one transaction is made of several statements: SQLite runs them one after the
//! other and `changes()` tells whether the guard let the first one through; PostgreSQL runs one
//! statement whose parts feed on the guarded one's rows.

use std::sync::{Arc, OnceLock};

use countersign_domain::ActionId;
use jiff::Timestamp;

use crate::{StoreError, Topic};

/// A value to bind.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Shared, since a verb that is tried again is bound again.
    Text(Option<Arc<str>>),
    Int(Option<i64>),
    Bytes(Arc<[u8]>),
}

/// The text as it will be read back: PostgreSQL cannot hold a zero character, and both engines get the
/// same substitute.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(|text| match text.contains('\0') {
            false => text.into(),
            true => storable(text).into(),
        }))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Some(text).into()
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Some(text.as_str()).into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Some(text.as_str()).into()
    }
}

impl From<ActionId> for Value {
    fn from(id: ActionId) -> Self {
        Self::Text(Some(id.to_string().into()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(Some(i64::from(number)))
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Int(Some(at.as_millisecond()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(|at| at.as_millisecond()))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// The values of one statement, in the order of its `$1`, `$2`, ...
pub(crate) type Args = Vec<Value>;

macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Value::from($value)),*] };
}
pub(crate) use args;

/// One transaction, in the shapes in which the engines run it. Made once, then cached as a prepared
/// statement under its text.
#[derive(Debug)]
pub(crate) struct Write {
    /// SQLite: the whole transaction in one go.
    pub(crate) alone: &'static str,
    /// SQLite: one verb as a part of a transaction.
    sqlite: String,
    /// SQLite: what stands before and after the rows, when each verb is a row of one statement.
    rows: Option<(String, String)>,
    /// SQLite: 1, 2, 4... verbs as a part of a transaction; made when first used.
    together: [OnceLock<Together>; Self::DOUBLINGS],
    /// How many arguments one verb takes: as the highest `$` number says.
    pub(crate) width: usize,
    pub(crate) postgres: &'static str,
    /// PostgreSQL: any number of verbs as one statement. Each argument is an array; with rows that
    /// come back stands, as column `n`, which verb they belong to.
    pub(crate) arrays: Option<Arrays>,
    /// Whether anybody may be waiting for it.
    pub(crate) wakes: bool,
    /// SQLite: alone it brings no rows, and fails as "left out" when it changes nothing. A row that comes
    /// back is one more message from the driver's thread, and one more tree to keep it in till then.
    pub(crate) or_fails: bool,
}

/// Equal verbs as one text on SQLite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Together {
    pub(crate) text: &'static str,
    pub(crate) verbs: usize,
    pub(crate) statements: usize,
    /// Rows that come back say in their last column which verb they belong to.
    pub(crate) numbered: bool,
}

/// Equal verbs as one statement on PostgreSQL.
#[derive(Debug)]
pub(crate) struct Arrays {
    pub(crate) text: &'static str,
    /// Whether verbs of different callers go together.
    pub(crate) gather: bool,
}

impl Write {
    const DOUBLINGS: usize = 6;

    /// Different text for each engine.
    pub(crate) fn pair(sqlite: &str, postgres: String) -> Self {
        Self {
            alone: format!("BEGIN IMMEDIATE; {sqlite}; COMMIT").leak(),
            sqlite: sqlite.to_owned(),
            rows: None,
            together: Default::default(),
            width: repeated(sqlite, 1, "").1,
            postgres: postgres.leak(),
            arrays: None,
            wakes: true,
            or_fails: false,
        }
    }

    /// One row of `width` values; many of them are one statement on either engine. `types` are
    /// PostgreSQL's.
    pub(crate) fn row(table_and_columns: &str, types: &[&str]) -> Self {
        let insert = format!("INSERT INTO {table_and_columns}");
        let mut row = Self::plain(&format!("{insert} VALUES ({})", numbered(1, types.len())));
        row.rows = Some((insert.clone(), String::new()));
        let text = format!("{insert} SELECT * FROM {}", unnested(types));
        row.in_arrays(text, false)
    }

    /// SQLite: a row into a view with this many columns and a last one, the verb's number; its trigger
    /// does the work and leaves out what is not to be, or fails when the number is -1.
    pub(crate) fn through(view: &str, width: usize, returning: &str, postgres: String) -> Self {
        let (insert, after) = (
            format!("INSERT INTO {view}"),
            format!(" RETURNING {returning}, n"),
        );
        let values = numbered(1, width);
        let mut write = Self::pair(&format!("{insert} VALUES ({values}, 0){after}"), postgres);
        write.rows = Some((insert.clone(), after));
        // One statement is a transaction of its own.
        let places = vec!["?"; width].join(", ");
        write.alone = format!("{insert} VALUES ({places}, -1)").leak();
        write.or_fails = true;
        write
    }

    /// PostgreSQL: a text for any number of these.
    pub(crate) fn in_arrays(mut self, text: String, gather: bool) -> Self {
        let text = text.leak();
        self.arrays = Some(Arrays { text, gather });
        self
    }

    /// SQLite: the text for as many of `waiting` equal verbs as can run as one. Each text of its own
    /// is a journey to the thread that owns the connection and back, which costs about as much as
    /// what the verb does.
    pub(crate) fn together(&self, waiting: usize) -> Together {
        let doublings = (waiting.max(1).ilog2() as usize).min(Self::DOUBLINGS - 1);
        let make = || self.repeat(1 << doublings);
        match self.together.get(doublings) {
            Some(made) => *made.get_or_init(make),
            None => make(),
        }
    }

    fn repeat(&self, verbs: usize) -> Together {
        let Some((before, after)) = &self.rows else {
            return Together {
                text: repeated(&self.sqlite, verbs, "; ").0.leak(),
                verbs,
                statements: verbs * self.sqlite.split(';').count(),
                numbered: false,
            };
        };
        // Not numbered as `$1`, since SQLite looks for each number among all.
        let places = vec!["?"; self.width].join(", ");
        let numbered = !after.is_empty();
        let row = |verb| match numbered {
            true => format!("({places}, {verb})"),
            false => format!("({places})"),
        };
        let rows: Vec<String> = (0..verbs).map(row).collect();
        Together {
            text: format!("{before} VALUES {}{after}", rows.join(", ")).leak(),
            verbs,
            statements: 1,
            numbered,
        }
    }

    /// How many verbs these arguments are for; more than one are done all or none.
    pub(crate) fn verbs(&self, args: &Args) -> Result<usize, StoreError> {
        match args.len().checked_div(self.width) {
            None if args.is_empty() => Ok(1),
            Some(verbs) if verbs > 0 && verbs * self.width == args.len() => Ok(verbs),
            _ => Err(StoreError::BadInput {
                why: format!(
                    "`{:.60}...` takes {} arguments, got {}",
                    self.sqlite,
                    self.width,
                    args.len()
                ),
            }),
        }
    }

    /// One statement that both engines understand.
    pub(crate) fn plain(text: &str) -> Self {
        Self::pair(text, text.to_owned())
    }

    /// A guarded change, and rows that are written exactly when it took place. Gives back
    /// `returning` of the changed rows.
    pub(crate) fn guarded(change: &str, returning: &str, follows: &[Follow]) -> Self {
        let mut sqlite = format!("{change} RETURNING {returning}");
        let mut postgres = format!("WITH changed AS ({change} RETURNING {returning})");
        for (index, follow) in follows.iter().enumerate() {
            let Follow {
                insert,
                only_if,
                once,
            } = follow;
            sqlite.push_str(&format!("; {insert} WHERE changes() > 0"));
            postgres.push_str(&format!(", follow_{index} AS ({insert}, changed"));
            if let Some(condition) = only_if {
                sqlite.push_str(&format!(" AND {condition}"));
                postgres.push_str(&format!(" WHERE {condition}"));
            }
            if *once {
                sqlite.push_str(" ON CONFLICT DO NOTHING");
                postgres.push_str(" ON CONFLICT DO NOTHING");
            }
            postgres.push(')');
        }
        postgres.push_str(" SELECT * FROM changed");
        Self::pair(&sqlite, postgres)
    }

    /// Leases rows: `pick` selects their ids, `update` changes them. PostgreSQL skips rows that
    /// somebody else is leasing right now.
    pub(crate) fn claim(table: &str, pick: &str, set: &str, returning: &str) -> Self {
        let sqlite = format!("UPDATE {table} SET {set} WHERE id IN ({pick}) RETURNING {returning}");
        let postgres = format!(
            "WITH picked AS ({pick} FOR UPDATE SKIP LOCKED) \
             UPDATE {table} SET {set} WHERE id IN (SELECT id FROM picked) RETURNING {returning}"
        );
        Self::pair(&sqlite, postgres).quiet()
    }

    /// Nobody waits for this.
    pub(crate) fn quiet(mut self) -> Self {
        self.wakes = false;
        self
    }
}

/// `INSERT INTO ... SELECT ... FROM ...` that follows a guarded change. It must insert at least one
/// row, unless it has a condition, and then it must come last: the next one looks at its count.
#[derive(Debug)]
pub(crate) struct Follow {
    insert: String,
    only_if: Option<&'static str>,
    /// What is there already is left out; like one with a condition it must come last.
    once: bool,
}

impl Follow {
    /// One row into `table`, of `width` values that begin at `$first`.
    pub(crate) fn row(table_and_columns: &str, first: usize, width: usize) -> Self {
        Self::values(table_and_columns, &numbered(first, width))
    }

    /// One row of these values.
    pub(crate) fn values(table_and_columns: &str, values: &str) -> Self {
        Self {
            insert: format!(
                "INSERT INTO {table_and_columns} SELECT {values} FROM (VALUES (1)) AS one"
            ),
            only_if: None,
            once: false,
        }
    }

    /// An audit event whose [`crate::rows::event_args`] begin at `$first`.
    pub(crate) fn audit(first: usize) -> Self {
        Self::row(AUDIT, first, AUDIT_WIDTH)
    }

    /// Outbox rows that tell of `moment`, one for each topic. All arguments are SQL: `$` numbers or
    /// quoted words. `version` is the one that the transition made: a state can be reached twice. What
    /// is there already is left out: nobody who writes to the outbox can hold a transition up.
    pub(crate) fn outbox(
        topics: &[Topic],
        moment: &str,
        action: &str,
        version: &str,
        at: &str,
    ) -> Self {
        let rows: Vec<String> = topics
            .iter()
            .map(|topic| format!("('{}', '{}', {moment})", topic.as_str(), topic.family()))
            .collect();
        Self {
            insert: format!(
                "INSERT INTO outbox (action_id, topic, family, moment, version, created_at, not_before) \
                 SELECT {action}, t.column1, t.column2, t.column3, {version}, {at}, {at} \
                 FROM (VALUES {}) AS t",
                rows.join(", ")
            ),
            only_if: None,
            once: true,
        }
    }

    pub(crate) fn only_if(mut self, condition: &'static str) -> Self {
        self.only_if = Some(condition);
        self
    }
}

pub(crate) const AUDIT: &str =
    "audit (id, at, author, event, actor, action_id, outcome, json, kid, signature)";
pub(crate) const AUDIT_WIDTH: usize = 10;

/// `$3, $4, $5` for (3, 3).
pub(crate) fn numbered(first: usize, width: usize) -> String {
    let numbers: Vec<String> = (first..first + width).map(|n| format!("${n}")).collect();
    numbers.join(", ")
}

/// `unnest($1::text[], $2::bigint[])`: a row for each verb.
pub(crate) fn unnested(types: &[&str]) -> String {
    let numbers = (1..).zip(types);
    let arrays: Vec<String> = numbers.map(|(n, of)| format!("${n}::{of}[]")).collect();
    format!("unnest({})", arrays.join(", "))
}

/// The text so many times, each with arguments of its own (`$1, $2; $3, $4; ...`), and how many
/// arguments one takes.
fn repeated(text: &str, times: usize, between: &str) -> (String, usize) {
    let mut parts = text.split('$');
    let head = parts.next().unwrap_or_default();
    // What follows each `$`: its number, and the text up to the next one.
    let holes: Vec<(usize, &str)> = parts
        .map(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            // Without a number it is no argument: the `$` of a JSON path.
            (number.parse().unwrap_or_default(), rest)
        })
        .collect();
    let width = holes.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let copies: Vec<String> = (0..times)
        .map(|copy| {
            let mut text = head.to_owned();
            for (number, rest) in &holes {
                text.push('$');
                if *number > 0 {
                    text.push_str(&(copy * width + number).to_string());
                }
                text.push_str(rest);
            }
            text
        })
        .collect();
    (copies.join(between), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_texts_have_arguments_of_their_own() {
        let write = Write::plain("UPDATE a SET x = $2 WHERE id = $1");
        let Together {
            text,
            verbs,
            statements,
            ..
        } = write.together(9);
        assert_eq!((verbs, statements, write.width), (8, 8, 2));
        assert!(
            text.starts_with(
                "UPDATE a SET x = $2 WHERE id = $1; UPDATE a SET x = $4 WHERE id = $3; "
            )
        );
        assert!(text.ends_with("x = $16 WHERE id = $15"));
        let sizes = [1, 3, 15, 16, 64].map(|waiting| write.together(waiting).verbs);
        assert_eq!(sizes, [1, 2, 8, 16, 32]);
        let arguments = |many| write.verbs(&vec![Value::Int(None); many]).ok();
        assert_eq!(
            [0, 1, 2, 3, 4].map(arguments),
            [None, None, Some(1), None, Some(2)]
        );
    }

    #[test]
    fn many_rows_are_one_statement() {
        let write = Write::row("a (x, y)", &["text", "bigint"]);
        let Together {
            text,
            verbs,
            statements,
            ..
        } = write.together(2);
        assert_eq!(text, "INSERT INTO a (x, y) VALUES (?, ?), (?, ?)");
        assert_eq!((verbs, statements), (2, 1));
        assert_eq!(
            write.arrays.unwrap().text,
            "INSERT INTO a (x, y) SELECT * FROM unnest($1::text[], $2::bigint[])"
        );
    }

    #[test]
    fn a_verb_has_one_text_for_each_engine() {
        let write = Write::guarded(
            "UPDATE a SET x = $1 WHERE id = $2",
            "id",
            &[
                Follow::row("b (y, z)", 3, 2),
                Follow::row("c (y)", 5, 1).only_if("$5 IS NOT NULL"),
            ],
        );
        assert_eq!(
            write.alone,
            "BEGIN IMMEDIATE; UPDATE a SET x = $1 WHERE id = $2 RETURNING id; \
             INSERT INTO b (y, z) SELECT $3, $4 FROM (VALUES (1)) AS one WHERE changes() > 0; \
             INSERT INTO c (y) SELECT $5 FROM (VALUES (1)) AS one WHERE changes() > 0 AND $5 IS NOT NULL; \
             COMMIT"
        );
        assert_eq!(
            write.postgres,
            "WITH changed AS (UPDATE a SET x = $1 WHERE id = $2 RETURNING id), \
             follow_0 AS (INSERT INTO b (y, z) SELECT $3, $4 FROM (VALUES (1)) AS one, changed), \
             follow_1 AS (INSERT INTO c (y) SELECT $5 FROM (VALUES (1)) AS one, changed WHERE $5 IS NOT NULL) \
             SELECT * FROM changed"
        );
    }

    #[test]
    fn rows_of_a_view_say_whose_they_are() {
        let write = Write::through("v", 2, "id", String::new());
        assert_eq!(write.alone, "INSERT INTO v VALUES (?, ?, -1)");
        let two = write.together(3);
        assert_eq!(
            two.text,
            "INSERT INTO v VALUES (?, ?, 0), (?, ?, 1) RETURNING id, n"
        );
        assert_eq!((two.verbs, two.statements, two.numbered), (2, 1, true));
    }

    #[test]
    fn a_zero_character_never_reaches_the_database() {
        let Value::Text(Some(text)) = Value::from("a\0b") else {
            panic!()
        };
        assert_eq!(&*text, "a\u{fffd}b");
    }
}
