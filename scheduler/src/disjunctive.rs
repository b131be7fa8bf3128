//! Exact sequencing of a fixed placement: branch and bound over the disjunctive graph.
//!
//! Jobs are tasks and transfers with fixed lengths; jobs that share a unit or channel must not overlap. Heads are
//! longest paths to a job, tails longest paths from its end. A pair that shares a resource is decided when one of
//! its orders would give `head_i + p_i + p_j + tail_j ≥ limit` (immediate selection: Carlier and Pinson, "An
//! algorithm for solving the job-shop problem", Management Science 35(2), 1989); a node is cut when on some
//! resource `min head + Σ p + min tail` of a set of jobs reaches the limit (their one-machine bound); else the
//! undecided pair that overlaps in the schedule of heads and costs most to decide is branched on.
//!
//! Where a memory overflows although no pair overlaps, some two of the things alive at that instant must not
//! live together: every such pair is branched on, by letting all users of the one end before the other begins.
//! Such waits show in the starts only.
//!
//! # Complexity
//! Exponential in the undecided pairs; O(jobs²) per node.

/// Most jobs: sets of jobs are bit masks.
pub(crate) const JOB_LIMIT: usize = 128;

/// Part by which a makespan must be shorter to count as shorter, against rounding.
pub(crate) const MARGIN: f64 = 1.0 / (1u64 << 40) as f64;

/// Jobs with their precedence and resources.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    pub(crate) length: Vec<f64>,
    /// Jobs that must end before each job starts.
    pub(crate) after: Vec<Vec<usize>>,
    /// Jobs of each resource that take time.
    pub(crate) resources: Vec<Vec<usize>>,
}

/// Two things that may not live together in a memory: the users of the first, the job that begins the second.
pub(crate) type Separation = (Vec<usize>, usize);

/// What the leaf of a search says about starts that respect all resources.
pub(crate) enum Leaf {
    /// A solution was recorded, and only makespans below the limit are wanted from now on.
    Record(f64),
    /// A memory overflows: one of these separations must hold.
    Overflow(Vec<Separation>),
}

#[derive(Debug, Clone)]
struct Node {
    head: Vec<f64>,
    tail: Vec<f64>,
    /// Jobs that each job is known to come before, directly.
    before: Vec<u128>,
}

/// The search over one placement.
pub(crate) struct Disjunctive<'j, F> {
    jobs: &'j Jobs,
    /// Pairs that share a resource.
    pairs: Vec<(usize, usize)>,
    followers: Vec<u128>,
    limit: f64,
    nodes: u64,
    node_limit: u64,
    leaf: F,
}

impl<'j, F: FnMut(&[f64]) -> Leaf> Disjunctive<'j, F> {
    /// Searches for starts whose makespan stays below `limit`; calls `leaf` for each that respects all resources.
    ///
    /// # Returns
    /// The number of nodes, or `None` where it would exceed `node_limit`.
    pub(crate) fn search(jobs: &'j Jobs, limit: f64, node_limit: u64, leaf: F) -> Option<u64> {
        let n = jobs.length.len();
        let mut pairs = Vec::new();
        for resource in &jobs.resources {
            for (k, &i) in resource.iter().enumerate() {
                pairs.extend(resource[k + 1..].iter().map(|&j| (i.min(j), i.max(j))));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let mut followers = vec![0u128; n];
        for (j, after) in jobs.after.iter().enumerate() {
            for &i in after {
                followers[i] |= 1 << j;
            }
        }
        let mut search = Self { jobs, pairs, followers, limit, nodes: 0, node_limit, leaf };
        let node = Node { head: vec![0.0; n], tail: vec![0.0; n], before: vec![0; n] };
        let mut root = node;
        let mut open = true;
        for j in 0..n {
            for &i in &jobs.after[j] {
                open = open && search.arc(&mut root, i, j);
            }
        }
        let done = !open || search.visit(root);
        done.then_some(search.nodes)
    }

    /// Puts `i` before `j`. False where the limit is reached.
    fn arc(&self, node: &mut Node, i: usize, j: usize) -> bool {
        node.before[i] |= 1 << j;
        self.push_head(node, i, j) && self.push_tail(node, i, j)
    }

    fn push_head(&self, node: &mut Node, i: usize, j: usize) -> bool {
        let head = node.head[i] + self.jobs.length[i];
        if head <= node.head[j] {
            return true;
        }
        node.head[j] = head;
        if head + self.jobs.length[j] + node.tail[j] >= self.limit {
            return false;
        }
        let mut next = node.before[j] | self.followers[j];
        while next != 0 {
            let k = next.trailing_zeros() as usize;
            next &= next - 1;
            if !self.push_head(node, j, k) {
                return false;
            }
        }
        true
    }

    fn push_tail(&self, node: &mut Node, i: usize, j: usize) -> bool {
        let tail = node.tail[j] + self.jobs.length[j];
        if tail <= node.tail[i] {
            return true;
        }
        node.tail[i] = tail;
        if node.head[i] + self.jobs.length[i] + tail >= self.limit {
            return false;
        }
        (0..node.before.len())
            .filter(|&h| (node.before[h] | self.followers[h]) >> i & 1 == 1)
            .collect::<Vec<_>>()
            .into_iter()
            .all(|h| self.push_tail(node, h, i))
    }

    /// Least makespan if `i` comes before `j`.
    fn cost(&self, node: &Node, i: usize, j: usize) -> f64 {
        let start = (node.head[i] + self.jobs.length[i]).max(node.head[j]);
        let after = (self.jobs.length[j] + node.tail[j]).max(node.tail[i]);
        (start + self.jobs.length[j] + node.tail[j]).max(node.head[i] + self.jobs.length[i] + after)
    }

    fn decided(node: &Node, i: usize, j: usize) -> bool {
        node.before[i] >> j & 1 == 1 || node.before[j] >> i & 1 == 1
    }

    /// Decides what is forced. False where the node can be cut.
    fn select(&self, node: &mut Node) -> bool {
        let mut again = true;
        while again {
            again = false;
            for &(i, j) in &self.pairs {
                if Self::decided(node, i, j) {
                    continue;
                }
                let (ij, ji) = (self.cost(node, i, j) >= self.limit, self.cost(node, j, i) >= self.limit);
                let open = match (ij, ji) {
                    (true, true) => false,
                    (true, false) => self.arc(node, j, i),
                    (false, true) => self.arc(node, i, j),
                    (false, false) => continue,
                };
                if !open {
                    return false;
                }
                again = true;
            }
        }
        self.jobs
            .resources
            .iter()
            .all(|r| one_machine(r, &node.head, &self.jobs.length, &node.tail) < self.limit)
    }

    /// Explores a node. False where the node limit is reached.
    fn visit(&mut self, mut node: Node) -> bool {
        self.nodes += 1;
        if self.nodes > self.node_limit {
            return false;
        }
        if !self.select(&mut node) {
            return true;
        }
        let end = |node: &Node, i: usize| node.head[i] + self.jobs.length[i];
        let mut branch: Option<(f64, usize, usize)> = None;
        for &(i, j) in &self.pairs {
            let overlap = node.head[i] < end(&node, j) && node.head[j] < end(&node, i);
            if overlap && !Self::decided(&node, i, j) {
                let (ij, ji) = (self.cost(&node, i, j), self.cost(&node, j, i));
                let key = ij.min(ji);
                if branch.is_none_or(|b| key > b.0) {
                    branch = Some(if ij <= ji { (key, i, j) } else { (key, j, i) });
                }
            }
        }
        if let Some((_, i, j)) = branch {
            return [(i, j), (j, i)].into_iter().all(|(i, j)| {
                let mut child = node.clone();
                !self.arc(&mut child, i, j) || self.visit(child)
            });
        }
        match (self.leaf)(&node.head) {
            Leaf::Record(limit) => self.limit = limit,
            Leaf::Overflow(separations) => {
                for (users, begin) in separations {
                    let mut child = node.clone();
                    if users.iter().all(|&u| self.arc(&mut child, u, begin)) && !self.visit(child) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// The largest `min head + Σ length + min tail` over sets of jobs of one resource. O(jobs² log jobs).
pub(crate) fn one_machine(jobs: &[usize], head: &[f64], length: &[f64], tail: &[f64]) -> f64 {
    let mut by_tail = jobs.to_vec();
    by_tail.sort_unstable_by(|&a, &b| tail[b].total_cmp(&tail[a]));
    let mut best = 0.0f64;
    for &first in jobs {
        let mut sum = head[first];
        for &j in by_tail.iter().filter(|&&j| head[j] >= head[first]) {
            sum += length[j];
            best = best.max(sum + tail[j]);
        }
    }
    best
}
