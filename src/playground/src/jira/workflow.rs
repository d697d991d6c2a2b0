//! The workflow of the OPS project: statuses, and who can move a ticket from where to where.

use serde_json::{Value, json};

use super::people::Who;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    ToDo,
    InProgress,
    Approved,
    Declined,
    Done,
}

impl Status {
    pub const ALL: [Self; 5] = [
        Self::ToDo,
        Self::InProgress,
        Self::Approved,
        Self::Declined,
        Self::Done,
    ];

    pub fn id(self) -> &'static str {
        match self {
            Self::ToDo => "10000",
            Self::Approved => "10001",
            Self::Declined => "10002",
            Self::Done => "10003",
            Self::InProgress => "10004",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::ToDo => "To Do",
            Self::InProgress => "In Progress",
            Self::Approved => "Approved",
            Self::Declined => "Declined",
            Self::Done => "Done",
        }
    }

    /// Its name in jira.json.
    pub fn slug(self) -> &'static str {
        match self {
            Self::ToDo => "to_do",
            Self::InProgress => "in_progress",
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::Done => "done",
        }
    }

    pub fn describe(self, url: &str) -> Value {
        let (key, category_id, category) = match self {
            Self::ToDo => ("new", 2, "To Do"),
            Self::Done => ("done", 3, "Done"),
            _ => ("indeterminate", 4, "In Progress"),
        };
        json!({
            "self": format!("{url}/rest/api/3/status/{}", self.id()), "description": "",
            "name": self.name(), "id": self.id(),
            "statusCategory": {
                "self": format!("{url}/rest/api/3/statuscategory/{category_id}"),
                "id": category_id, "key": key, "name": category,
            },
        })
    }

    /// The transition that leads here.
    pub fn transition_id(self) -> &'static str {
        match self {
            Self::ToDo => "1",
            Self::InProgress => "11",
            Self::Approved => "21",
            Self::Declined => "31",
            Self::Done => "41",
        }
    }

    fn leads_to(self, to: Self) -> bool {
        match self {
            Self::ToDo => to != Self::ToDo,
            Self::InProgress => to != Self::InProgress && to != Self::ToDo,
            // Back to To Do: a person may take a move back, as most workflows let them.
            Self::Approved | Self::Declined => to == Self::Done || to == Self::ToDo,
            Self::Done => false,
        }
    }

    /// Where `who` can move a ticket from here. With `robots_barred`, as a careful administrator
    /// sets it up, no robot can move one to a status that decides.
    pub fn targets(self, who: Who, robots_barred: bool) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |to| {
            let decides = matches!(to, Self::Approved | Self::Declined);
            who.may_write() && self.leads_to(*to) && !(robots_barred && who.is_robot() && decides)
        })
    }
}
