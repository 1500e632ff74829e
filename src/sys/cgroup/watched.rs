//! A task that watches control groups and stops new ones, whatever their owner is busy with.
//!
//! Must not know why anybody is interested in a group.

use tokio::sync::mpsc;

use super::{Change, Group, Groups, Open};

/// Groups that a task of their own watches: a new one is stopped at once, whatever its owner is busy with.
#[derive(Debug)]
pub struct Watched {
    groups: Vec<Open>,
    absent: Vec<String>,
    news: mpsc::Receiver<News>,
}

/// What the task found, and how things stand since.
#[derive(Debug)]
struct News {
    changes: Vec<Change>,
    groups: Vec<Open>,
}

impl Watched {
    /// Returns every group by which a rule has to match: those there are, and the last of those that were there
    /// before them, whose sockets may have outlived them. As of the last change that was returned.
    pub fn all(&self) -> impl Iterator<Item = Group> {
        self.groups.iter().map(|(group, _)| *group)
    }

    /// Returns the paths of groups that were not there at the start, as given.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.absent.iter().map(String::as_str)
    }

    /// Waits until a group is removed or made anew. The new one stands still until its change is dropped. What cannot be
    /// looked at (descriptors or watches have run out, say) is looked at again every second, for ever.
    pub async fn changes(&mut self) -> Vec<Change> {
        match self.news.recv().await {
            Some(news) => {
                self.groups = news.groups;
                news.changes
            }
            // The task ends with the runtime.
            None => std::future::pending().await,
        }
    }
}

impl Groups {
    /// Has a task of the runtime watch them until the result is dropped.
    pub fn watch(mut self) -> Watched {
        let (tell, news) = mpsc::channel(1);
        let absent = self.held.iter().filter(|held| held.gone).map(|held| held.path.clone()).collect();
        let watched = Watched { groups: self.open(), absent, news };
        tokio::spawn(async move {
            let mut untold = Vec::new();
            loop {
                // While the owner is busy it goes on watching.
                tokio::select! {
                    changes = self.changes() => untold = merged(untold, changes),
                    place = tell.reserve(), if !untold.is_empty() => match place {
                        Ok(place) => place.send(News { changes: std::mem::take(&mut untold), groups: self.open() }),
                        Err(_) => return,
                    },
                    () = tell.closed() => return,
                }
            }
        });
        watched
    }
}

/// Joins what was not told with what came after. Of the groups that were made under one path only the newest has anything
/// in it that could stand still; that one came is told also when it is gone again, for the sockets that were made in it.
fn merged(untold: Vec<Change>, later: Vec<Change>) -> Vec<Change> {
    let outdated = |change: &Change| {
        later.iter().any(|newer| matches!(newer, Change::Anew { .. }) && newer.path() == change.path())
    };
    let mut all: Vec<Change> = untold.into_iter().filter(|change| !outdated(change)).collect();
    all.extend(later);
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::super::tests::watching;
    use super::super::{FREEZER, LIVES, SAFETY_NET};
    use super::*;

    #[tokio::test]
    async fn a_new_group_stands_still_before_its_owner_asks_and_until_the_owner_is_done() {
        let root = tempfile::tempdir().unwrap();
        let (there, aside) = (root.path().join("one"), root.path().join("aside"));
        std::fs::create_dir(&there).unwrap();
        let mut watched = watching(root.path(), &["one"]).watch();
        let before: Vec<Group> = watched.all().collect();

        std::fs::create_dir(&aside).unwrap();
        std::fs::write(aside.join(FREEZER), "0").unwrap();
        std::fs::remove_dir(&there).unwrap();
        std::fs::rename(&aside, &there).unwrap();
        let frozen = || std::fs::read_to_string(there.join(FREEZER)).unwrap();
        let stopped = async {
            while frozen() != "1" {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SAFETY_NET * 5, stopped).await.expect("it is stopped though nobody asked");
        assert_eq!(watched.all().collect::<Vec<_>>(), before, "not told yet");

        let changes = timeout(SAFETY_NET, async {
            loop {
                let changes = watched.changes().await;
                if changes.iter().any(|change| matches!(change, Change::Anew { .. })) {
                    break changes;
                }
            }
        });
        let changes = changes.await.expect("told");
        assert_eq!(watched.all().count(), 2);
        assert_eq!(frozen(), "1", "until its owner is done");
        drop(changes);
        assert_eq!(frozen(), "0");
    }

    #[tokio::test]
    async fn however_often_a_group_is_made_anew_it_stands_still_though_nobody_asks() {
        let root = tempfile::tempdir().unwrap();
        let (there, aside) = (root.path().join("one"), root.path().join("aside"));
        std::fs::create_dir(&there).unwrap();
        let mut watched = watching(root.path(), &["one"]).watch();
        let frozen = || std::fs::read_to_string(there.join(FREEZER)).unwrap();
        for round in 0..200 {
            std::fs::create_dir(&aside).unwrap();
            std::fs::write(aside.join(FREEZER), "0").unwrap();
            std::fs::remove_dir_all(&there).unwrap();
            std::fs::rename(&aside, &there).unwrap();
            let stopped = async {
                while frozen() != "1" {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(SAFETY_NET * 5, stopped).await.unwrap_or_else(|_| panic!("round {round}: it runs"));
        }
        // Word of the first, and of all that came after it.
        for told in 1..=2 {
            assert_eq!(frozen(), "1", "told {told}");
            let changes = timeout(SAFETY_NET, watched.changes()).await.expect("told");
            assert!(matches!(&changes[..], [Change::Anew { .. }]), "{changes:?}");
        }
        assert_eq!(frozen(), "0");
        assert_eq!(watched.all().count(), LIVES);
    }

    #[test]
    fn a_group_that_came_and_went_untold_is_told_of_and_one_that_was_made_over_it_replaces_it() {
        let anew = |path: &str| vec![Change::Anew { path: path.to_owned(), stillness: None }];
        let gone = |path: &str| vec![Change::Gone { path: path.to_owned() }];
        let both = merged(anew("one"), gone("one"));
        assert!(matches!(&both[..], [Change::Anew { .. }, Change::Gone { .. }]), "{both:?}");
        let last = merged(both, anew("one"));
        assert!(matches!(&last[..], [Change::Anew { .. }]), "{last:?}");
        assert_eq!(merged(last, anew("two")).len(), 2, "others are told of too");
    }
}
