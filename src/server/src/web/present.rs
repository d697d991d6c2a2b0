//! How instants, durations and names are written on pages. Instants carry their zone; the script
//! turns them into the reader's own.

use std::fmt;

use askama::filters::HtmlSafe;
use countersign_domain::{Registry, one_line};
use jiff::{SignedDuration, Timestamp};

use super::assets;
use super::session::SignedIn;

/// What the frame around every page needs.
pub(super) struct Chrome {
    pub style: &'static str,
    pub script: &'static str,
    pub icon: &'static str,
    pub person: Option<Who>,
    /// A cluster of this server is simulated.
    pub simulated: bool,
    /// `actions`, `audit` or empty.
    pub section: &'static str,
    /// The server's clock, for countdowns on machines whose own clock is off.
    pub now_ms: i64,
}

pub(super) struct Who {
    pub name: String,
    pub csrf: String,
}

impl Chrome {
    /// Around pages that know neither person nor app.
    pub(super) fn bare() -> Self {
        Self {
            style: assets::style(),
            script: assets::script(),
            icon: assets::icon(),
            person: None,
            simulated: false,
            section: "",
            now_ms: 0,
        }
    }

    pub(super) fn of(web: &super::Web, section: &'static str, who: &SignedIn) -> Self {
        Self {
            person: Some(Who {
                name: who.name.clone(),
                csrf: who.csrf.text().to_owned(),
            }),
            simulated: web.app.simulated(),
            section,
            now_ms: web.app.clock.now().as_millisecond(),
            ..Self::bare()
        }
    }
}

/// An instant: the time of day, with the date when it is another day's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub at: Timestamp,
    pub now: Timestamp,
}

impl HtmlSafe for Moment {}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same_day = self.at.strftime("%F").to_string() == self.now.strftime("%F").to_string();
        let (form, text) = if same_day {
            ("time", self.at.strftime("%H:%M:%S UTC"))
        } else {
            ("date", self.at.strftime("%F %H:%M UTC"))
        };
        let full = self.at.strftime("%F %H:%M:%S UTC");
        write!(
            f,
            "<time datetime=\"{}\" title=\"{full}\" data-local=\"{form}\">{text}</time>",
            self.at
        )
    }
}

/// Time left until an instant; the script counts it down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub until: Timestamp,
    pub now: Timestamp,
}

impl HtmlSafe for Left {}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.until.duration_since(self.now).as_secs().max(0);
        let text = if seconds >= 3600 {
            format!(
                "{}:{:02}:{:02}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60
            )
        } else {
            format!("{:02}:{:02}", seconds / 60, seconds % 60)
        };
        write!(
            f,
            "<span class=\"count\" data-until=\"{}\">{text}</span>",
            self.until.as_millisecond()
        )
    }
}

/// How long ago; the script keeps it true.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ago {
    pub at: Timestamp,
    pub now: Timestamp,
}

impl Ago {
    /// The same for a page that nothing keeps true.
    pub(super) const fn moment(&self) -> Moment {
        Moment {
            at: self.at,
            now: self.now,
        }
    }
}

impl HtmlSafe for Ago {}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = words(self.now.duration_since(self.at));
        write!(
            f,
            "<span data-since=\"{}\">{text}</span>",
            self.at.as_millisecond()
        )
    }
}

/// `45 s`, `2 min`, `1 min 30 s`, `3 h 5 min`, `2 days`.
pub(super) fn words(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let two = |big: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 {
            format!("{big} {unit}")
        } else {
            format!("{big} {unit} {small} {sub}")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => two(seconds / 60, "min", seconds % 60, "s"),
        600..3600 => format!("{} min", seconds / 60),
        3600..86400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => format!("{} days", seconds / 86400),
    }
}

/// A person's name as the registry has it, else the id.
pub(super) fn name_of(registry: &Registry, id: &str) -> String {
    registry
        .person(id)
        .map_or_else(|| one_line(id, 64), |person| one_line(&person.name, 64))
}

/// `A`, `A and B`, `A, B and C`.
pub(super) fn and_list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_speech() {
        for (seconds, want) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (90, "1 min 30 s"),
            (660, "11 min"),
            (3600, "1 h"),
            (11_100, "3 h 5 min"),
            (200_000, "2 days"),
        ] {
            assert_eq!(words(SignedDuration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn another_day_shows_its_date() {
        let now: Timestamp = "2026-11-22T02:19:04Z".parse().unwrap();
        let today = Moment { at: now, now }.to_string();
        assert!(today.contains(">02:19:04 UTC<"), "{today}");
        let before = Moment {
            at: "2026-11-21T23:59:00Z".parse().unwrap(),
            now,
        }
        .to_string();
        assert!(before.contains(">2026-11-21 23:59 UTC<"), "{before}");
        let left = Left {
            until: "2026-11-22T02:30:46Z".parse().unwrap(),
            now,
        }
        .to_string();
        assert!(left.contains(">11:42<"), "{left}");
    }
}
