//! The order of components: dependencies first, ties by position, circles together.

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

/// What settles ties: the lower comes first.
type Key<'a> = &'a dyn Fn(usize) -> (usize, usize);

/// Who wants an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// A component manifest.
    Manifest,
    /// An instruction.
    Instruction,
}

/// The dependency graph of components, which are numbered in listing order. Edges lead from dependants to dependencies.
#[derive(Debug, Default)]
pub(crate) struct Dependencies<'a> {
    graph: DiGraph<(), Wish>,
    names: Vec<&'a str>,
    numbers: HashMap<&'a str, usize>,
    known: HashSet<(usize, usize)>,
}

impl<'a> Dependencies<'a> {
    /// A graph of these components, without edges. A name that comes again is left out.
    pub(crate) fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let mut this = Self::default();
        for name in names {
            if !this.numbers.contains_key(name) {
                this.numbers.insert(name, this.names.len());
                this.names.push(name);
                this.graph.add_node(());
            }
        }
        this
    }

    /// The number of a component.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// What a manifest says: an edge from a dependant to what it depends on; nothing happens if either is unknown.
    pub(crate) fn add(&mut self, dependant: &str, dependency: &str) {
        self.edge(dependant, dependency, Wish::Manifest);
    }

    /// The same, said by an instruction. All that manifests say must have been added before.
    pub(crate) fn add_wish(&mut self, dependant: &str, dependency: &str) {
        self.edge(dependant, dependency, Wish::Instruction);
    }

    fn edge(&mut self, dependant: &str, dependency: &str, wish: Wish) {
        if let (Some(a), Some(b)) = (self.number(dependant), self.number(dependency))
            && a != b
            && self.known.insert((a, b))
        {
            self.graph
                .add_edge(NodeIndex::new(a), NodeIndex::new(b), wish);
        }
    }

    fn next(
        &self,
        node: usize,
        direction: petgraph::Direction,
    ) -> impl Iterator<Item = usize> + '_ {
        let neighbours = self
            .graph
            .neighbors_directed(NodeIndex::new(node), direction);
        neighbours.map(NodeIndex::index)
    }

    /// The components that depend on this one by a manifest.
    pub(crate) fn dependants(&self, name: &str) -> Vec<&'a str> {
        let Some(number) = self.number(name) else {
            return Vec::new();
        };
        let mut found: Vec<usize> = self.next(number, Incoming).collect();
        found.sort_unstable();
        found.into_iter().map(|one| self.names[one]).collect()
    }

    /// A circle of every group of components that depend on each other, in listing order; each begins with the first
    /// listed of its group, and is as short as one through it can be.
    pub(crate) fn circles(&self) -> Vec<Vec<&'a str>> {
        let mut circles: Vec<(usize, Vec<&'a str>)> = Vec::new();
        for group in kosaraju_scc(&self.graph) {
            if group.len() > 1 {
                let members: HashSet<usize> = group.iter().map(|node| node.index()).collect();
                let first = members.iter().copied().min().unwrap_or_default();
                circles.push((first, self.circle(first, &members)));
            }
        }
        circles.sort_unstable();
        circles.into_iter().map(|(_, circle)| circle).collect()
    }

    /// The shortest circle from a component back to itself.
    fn circle(&self, first: usize, members: &HashSet<usize>) -> Vec<&'a str> {
        let mut came_by: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([first]);
        while let Some(at) = queue.pop_front() {
            let mut next: Vec<usize> = self
                .next(at, Outgoing)
                .filter(|one| members.contains(one))
                .collect();
            next.sort_unstable();
            for one in next {
                if one == first {
                    let mut path = vec![at];
                    while let Some(before) = came_by.get(&path[path.len() - 1]) {
                        path.push(*before);
                    }
                    path.reverse();
                    return path.into_iter().map(|one| self.names[one]).collect();
                }
                if let std::collections::hash_map::Entry::Vacant(entry) = came_by.entry(one) {
                    entry.insert(at);
                    queue.push_back(one);
                }
            }
        }
        vec![self.names[first]]
    }

    /// All components, dependencies first. Of those that could come next, the first listed comes next; of a circle, too.
    pub(crate) fn dependencies_first(&self) -> Vec<&'a str> {
        let all: Vec<usize> = (0..self.names.len()).collect();
        let order = self.sorted(&all, &|number| (0, number));
        order.into_iter().map(|number| self.names[number]).collect()
    }

    /// The groups that change together: components with a position that depend on each other in any way, also through
    /// components without one. The groups come in the order of their first members, and within each dependencies first.
    /// Ties go by position. A circle keeps the order of positions among dependants first, unless manifests say otherwise.
    pub(crate) fn groups(&self, position: &[Option<usize>]) -> Vec<Vec<&'a str>> {
        let part = self.parts(position);
        let mut root: Vec<usize> = (0..self.names.len()).collect();
        for edge in self.graph.edge_indices() {
            if let Some((a, b)) = self.graph.edge_endpoints(edge)
                && part[a.index()]
                && part[b.index()]
            {
                let (a, b) = (find(&mut root, a.index()), find(&mut root, b.index()));
                root[a] = b;
            }
        }
        let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
        for number in (0..self.names.len()).filter(|number| part[*number]) {
            let root = find(&mut root, number);
            members.entry(root).or_default().push(number);
        }
        let at = |number: usize| position[number].unwrap_or(usize::MAX);
        let mut groups: Vec<Vec<usize>> = members.into_values().collect();
        groups.sort_unstable_by_key(|group| group.iter().map(|number| at(*number)).min());
        let mut rank = vec![0; self.names.len()];
        for (index, group) in groups.iter().enumerate() {
            for number in group {
                rank[*number] = index;
            }
        }
        // No edge leads from one group to another, so that one sort brings them one after the other.
        let order = self.sorted(&groups.concat(), &|number| (rank[number], at(number)));
        let mut named = vec![Vec::new(); groups.len()];
        for number in order.into_iter().filter(|one| position[*one].is_some()) {
            named[rank[number]].push(self.names[number]);
        }
        named
    }

    /// Which components have a part in the order: those with a position, and those through which one of them depends on
    /// another.
    fn parts(&self, position: &[Option<usize>]) -> Vec<bool> {
        let reach = |direction| {
            let mut reached = vec![false; self.names.len()];
            let mut queue: Vec<usize> = (0..self.names.len())
                .filter(|number| position[*number].is_some())
                .collect();
            while let Some(at) = queue.pop() {
                for next in self.next(at, direction) {
                    if position[next].is_none() && !reached[next] {
                        reached[next] = true;
                        queue.push(next);
                    }
                }
            }
            reached
        };
        let (below, above) = (reach(Outgoing), reach(Incoming));
        (0..self.names.len())
            .map(|number| position[number].is_some() || (below[number] && above[number]))
            .collect()
    }

    /// Some of the components, dependencies first; edges to others do not count.
    fn sorted(&self, some: &[usize], at: Key<'_>) -> Vec<usize> {
        let mut place = vec![usize::MAX; self.names.len()];
        for (index, number) in some.iter().enumerate() {
            place[*number] = index;
        }
        let inner = self.graph.filter_map(
            |node, ()| (place[node.index()] != usize::MAX).then_some(node.index()),
            |_, wish| Some(*wish),
        );
        let circles: Vec<Vec<usize>> = kosaraju_scc(&inner)
            .into_iter()
            .map(|group| self.circle_order(group.into_iter().map(|node| inner[node]).collect(), at))
            .collect();
        let mut circle_of = vec![usize::MAX; self.names.len()];
        for (index, circle) in circles.iter().enumerate() {
            for number in circle {
                circle_of[*number] = index;
            }
        }
        let mut waiting = vec![0_usize; circles.len()];
        let mut dependants = vec![Vec::new(); circles.len()];
        for (index, circle) in circles.iter().enumerate() {
            for dependency in circle.iter().flat_map(|one| self.next(*one, Outgoing)) {
                let other = circle_of[dependency];
                if other != usize::MAX && other != index {
                    waiting[index] += 1;
                    dependants[other].push(index);
                }
            }
        }
        let first: Vec<_> = circles
            .iter()
            .map(|circle| {
                let keys = circle.iter().map(|number| (at(*number), *number));
                keys.min().unwrap_or_default()
            })
            .collect();
        let mut ready: BinaryHeap<_> = (0..circles.len())
            .filter(|index| waiting[*index] == 0)
            .map(|index| Reverse((first[index], index)))
            .collect();
        let mut order = Vec::with_capacity(some.len());
        while let Some(Reverse((_, index))) = ready.pop() {
            order.extend(circles[index].iter().copied());
            for dependant in &dependants[index] {
                waiting[*dependant] -= 1;
                if waiting[*dependant] == 0 {
                    ready.push(Reverse((first[*dependant], *dependant)));
                }
            }
        }
        order
    }

    /// The members of a circle. Dependants first they are in the order of their positions, as far as manifests do not
    /// want another; so this, dependencies first, is the reverse.
    fn circle_order(&self, mut members: Vec<usize>, at: Key<'_>) -> Vec<usize> {
        if members.len() < 2 {
            return members;
        }
        members.sort_unstable_by_key(|number| (at(*number), *number));
        let inside: HashSet<usize> = members.iter().copied().collect();
        let by_manifest = |number: usize, direction| {
            let edges = self
                .graph
                .edges_directed(NodeIndex::new(number), direction)
                .filter(|edge| *edge.weight() == Wish::Manifest);
            let ends = edges.map(move |edge| {
                use petgraph::visit::EdgeRef as _;
                match direction {
                    Outgoing => edge.target().index(),
                    Incoming => edge.source().index(),
                }
            });
            ends.filter(|end| inside.contains(end)).collect::<Vec<_>>()
        };
        let mut waiting: HashMap<usize, usize> = members
            .iter()
            .map(|number| (*number, by_manifest(*number, Incoming).len()))
            .collect();
        let key = |number: usize| Reverse((at(number), number));
        let mut ready: BinaryHeap<_> = members
            .iter()
            .filter(|number| waiting[*number] == 0)
            .map(|number| key(*number))
            .collect();
        let mut done: HashSet<usize> = HashSet::new();
        let mut left = members.iter().copied();
        let mut order = Vec::with_capacity(members.len());
        while order.len() < members.len() {
            // Manifests of two versions can make a circle of their own: then the first that is left comes next.
            let next = match ready.pop() {
                Some(Reverse((_, number))) => Some(number),
                None => left.by_ref().find(|number| !done.contains(number)),
            };
            let Some(next) = next else { break };
            if !done.insert(next) {
                continue;
            }
            order.push(next);
            for dependency in by_manifest(next, Outgoing) {
                if let Some(waiting) = waiting.get_mut(&dependency) {
                    *waiting = waiting.saturating_sub(1);
                    if *waiting == 0 {
                        ready.push(key(dependency));
                    }
                }
            }
        }
        order.reverse();
        order
    }
}

/// The representative of a set, with the path to it shortened.
fn find(root: &mut [usize], mut at: usize) -> usize {
    while root[at] != at {
        root[at] = root[root[at]];
        at = root[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("c{n}")).collect()
    }

    fn graph<'a>(names: &'a [String], edges: &[(usize, usize)]) -> Dependencies<'a> {
        let mut graph = Dependencies::new(names.iter().map(String::as_str));
        for (a, b) in edges {
            graph.add(&names[*a], &names[*b]);
        }
        graph
    }

    fn all(count: usize) -> Vec<Option<usize>> {
        (0..count).map(Some).collect()
    }

    #[test]
    fn ties_are_in_listing_order() {
        let names = names(4);
        let order = graph(&names, &[(0, 3)]).dependencies_first();
        assert_eq!(order, ["c1", "c2", "c3", "c0"]);
        assert_eq!(
            graph(&names[..3], &[]).dependencies_first(),
            ["c0", "c1", "c2"]
        );
    }

    #[test]
    fn a_group_comes_at_its_first_member() {
        let names = names(4);
        assert_eq!(
            graph(&names, &[(0, 3)]).groups(&all(4)),
            [vec!["c3", "c0"], vec!["c1"], vec!["c2"]]
        );
        // Through a component that does not change; and one that only both depend on ties nothing.
        let position = [Some(0), None, Some(1), Some(2)];
        assert_eq!(
            graph(&names, &[(0, 1), (1, 2)]).groups(&position),
            [vec!["c2", "c0"], vec!["c3"]]
        );
        assert_eq!(
            graph(&names, &[(0, 1), (2, 1)]).groups(&position),
            [vec!["c0"], vec!["c2"], vec!["c3"]]
        );
    }

    #[test]
    fn a_circle_stays_together_and_is_drawn() {
        let names = names(5);
        let mut graph = graph(&names, &[(1, 0), (3, 4)]);
        graph.add_wish("c0", "c3");
        graph.add_wish("c3", "c0");
        assert_eq!(graph.circles(), [["c0", "c3"]]);
        // Dependants first: c1, then c0 and c3 as listed, then c4.
        assert_eq!(
            graph.groups(&all(5)),
            [vec!["c4", "c3", "c0", "c1"], vec!["c2"]]
        );
    }

    #[test]
    fn within_a_circle_manifests_hold() {
        let names = names(3);
        let mut graph = graph(&names, &[(0, 1)]);
        graph.add_wish("c1", "c0");
        assert_eq!(graph.groups(&all(3)), [vec!["c1", "c0"], vec!["c2"]]);
        let names = self::names(3);
        let mut graph = self::graph(&names, &[(1, 0)]);
        graph.add_wish("c0", "c1");
        assert_eq!(graph.groups(&all(3)), [vec!["c0", "c1"], vec!["c2"]]);
    }

    proptest! {
        #![proptest_config(crate::seed::config(64))]
        /// On graphs without circles, every dependency comes first; and the order of edges does not matter.
        #[test]
        fn topological_and_stable(count in 1_usize..40, raw in prop::collection::vec((0_usize..40, 0_usize..40), 0..120)) {
            let names = names(count);
            let edges: Vec<(usize, usize)> = raw.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a > b).collect();
            let groups = graph(&names, &edges).groups(&all(count));
            let order = groups.concat();
            prop_assert_eq!(order.len(), count);
            let place = |n: usize| order.iter().position(|name| *name == format!("c{n}"));
            for (dependant, dependency) in &edges {
                prop_assert!(place(*dependency) < place(*dependant));
            }
            let reversed: Vec<(usize, usize)> = edges.iter().rev().copied().collect();
            prop_assert_eq!(groups, graph(&names, &reversed).groups(&all(count)));
        }

        /// With circles, too, all components are there once.
        #[test]
        fn circles_lose_nothing(count in 1_usize..30, raw in prop::collection::vec((0_usize..30, 0_usize..30, any::<bool>()), 0..90)) {
            let names = names(count);
            let mut graph = Dependencies::new(names.iter().map(String::as_str));
            for (a, b, _) in raw.iter().filter(|one| one.2) {
                graph.add(&names[a % count], &names[b % count]);
            }
            for (a, b, _) in raw.iter().filter(|one| !one.2) {
                graph.add_wish(&names[a % count], &names[b % count]);
            }
            let order = graph.groups(&all(count)).concat();
            let distinct: BTreeSet<&&str> = order.iter().collect();
            prop_assert_eq!((order.len(), distinct.len()), (count, count));
            prop_assert_eq!(graph.dependencies_first().len(), count);
            for circle in graph.circles() {
                prop_assert!(circle.len() > 1);
            }
        }
    }
}
