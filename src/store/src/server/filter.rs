//! Lists whose conditions depend on what was asked.

use crate::sql::{Args, Value};

/// Conditions and their values. Text comes from this crate, values are bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    conditions: Vec<String>,
    values: Args,
}

impl Filter {
    pub(super) fn condition(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }

    /// The value's place in a text: `$3`.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// `column_and_operator` and the value, when there is one.
    pub(super) fn compare<T: Into<Value>>(&mut self, column_and_operator: &str, value: Option<T>) {
        if let Some(value) = value {
            let place = self.bind(value);
            self.condition(format!("{column_and_operator} {place}"));
        }
    }

    /// `SELECT columns FROM table WHERE ...` with these conditions and more.
    pub(super) fn select(&self, columns: &str, table: &str, more: &[&str]) -> String {
        let conditions: Vec<&str> = more
            .iter()
            .copied()
            .chain(self.conditions.iter().map(String::as_str))
            .collect();
        match conditions.is_empty() {
            true => format!("SELECT {columns} FROM {table}"),
            false => format!(
                "SELECT {columns} FROM {table} WHERE {}",
                conditions.join(" AND ")
            ),
        }
    }

    pub(super) fn values(self) -> Args {
        self.values
    }
}

/// The first `limit` rows of all arms, each of which can be walked in its own `order`; `key` is the
/// common one. No arm is read further than that.
pub(super) fn merged(arms: &[(String, &str)], key: &str, limit: u32) -> String {
    if let [(arm, order)] = arms {
        return format!("{arm} ORDER BY {order} DESC LIMIT {limit}");
    }
    let arms: Vec<String> = (0..)
        .zip(arms)
        .map(|(n, (arm, order))| {
            format!("SELECT * FROM ({arm} ORDER BY {order} DESC LIMIT {limit}) AS arm_{n}")
        })
        .collect();
    format!(
        "{} ORDER BY {key} DESC LIMIT {limit}",
        arms.join(" UNION ALL ")
    )
}
