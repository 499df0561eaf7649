//! A task that waits long in a class moves one class up, so that none waits for ever.

use edgeprof_common::Priority;

use super::Queue;
use crate::Now;

/// Most tasks that move in one step, so that it stays short.
const AT_ONCE: usize = 256;

const fn above(class: Priority) -> Priority {
    match class {
        Priority::Low => Priority::Normal,
        Priority::Normal => Priority::High,
        Priority::High | Priority::Critical => Priority::Critical,
    }
}

impl Queue {
    /// Since when the task waits that has waited longest in its class.
    pub(crate) fn oldest(&self) -> Option<Now> {
        self.ages.values().filter_map(|ages| ages.first()).map(|(since, _)| *since).min()
    }

    /// Moves tasks that wait since `before` or longer one class up, some of them at a time.
    pub(crate) fn age(&mut self, before: Now, now: Now) {
        // The highest first, so that none moves twice.
        let mut left = AT_ONCE;
        for class in [Priority::High, Priority::Normal, Priority::Low] {
            while left > 0 {
                let oldest = self.ages.get(&class).and_then(|ages| ages.first()).copied();
                let Some((_, task)) = oldest.filter(|(since, _)| *since <= before) else { break };
                let Some(mut wait) = self.take(task) else { break };
                wait.flow = self.flows.key(above(class), &wait.flow.submitter.clone());
                wait.since = now;
                self.aged.insert(task, above(class));
                self.wait(task, wait);
                left -= 1;
            }
        }
    }
}
