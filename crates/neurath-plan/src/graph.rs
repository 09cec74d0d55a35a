//! The order of components: dependencies first, ties by listing order, circles together.

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// The dependency graph of components, which are numbered in listing order.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    graph: DiGraph<usize, ()>,
    nodes: Vec<NodeIndex>,
    names: BTreeMap<String, usize>,
    /// The order within a circle, once it is settled; listing order until then.
    within: Vec<usize>,
}

impl Dependencies {
    /// A graph of these components, without edges. A name that comes again is left out.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut this = Self::default();
        for name in names {
            if !this.names.contains_key(name) {
                let index = this.nodes.len();
                this.names.insert(name.to_string(), index);
                this.nodes.push(this.graph.add_node(index));
                this.within.push(index);
            }
        }
        this
    }

    /// An edge from a dependant to what it depends on; nothing happens if either is unknown.
    pub(crate) fn add(&mut self, dependant: &str, dependency: &str) {
        if let (Some(a), Some(b)) = (self.names.get(dependant), self.names.get(dependency)) {
            self.graph.update_edge(self.nodes[*a], self.nodes[*b], ());
        }
    }

    /// Settles the order within circles that edges added later make: that of the edges there are now.
    pub(crate) fn settle(&mut self) {
        for (rank, name) in self.dependencies_first().iter().enumerate() {
            if let Some(index) = self.names.get(name) {
                self.within[*index] = rank;
            }
        }
    }

    /// Groups of components that depend on each other in a circle, in listing order.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let names = self.by_index();
        let mut circles: Vec<Vec<usize>> = self
            .groups()
            .into_iter()
            .filter(|group| group.len() > 1)
            .collect();
        circles.sort();
        circles
            .into_iter()
            .map(|group| {
                group
                    .into_iter()
                    .map(|index| names[index].to_string())
                    .collect()
            })
            .collect()
    }

    /// All components, dependencies first. Of those that could come next, the first listed comes next.
    pub(crate) fn dependencies_first(&self) -> Vec<String> {
        let names = self.by_index();
        let groups = self.groups();
        let mut group_of = vec![0; self.nodes.len()];
        for (number, group) in groups.iter().enumerate() {
            for member in group {
                group_of[*member] = number;
            }
        }
        let mut edges = BTreeSet::new();
        for edge in self.graph.edge_indices() {
            if let Some((a, b)) = self.graph.edge_endpoints(edge) {
                let (dependant, dependency) = (group_of[self.graph[a]], group_of[self.graph[b]]);
                if dependant != dependency {
                    edges.insert((dependency, dependant));
                }
            }
        }
        let mut waiting = vec![0_usize; groups.len()];
        let mut dependants = vec![Vec::new(); groups.len()];
        for (dependency, dependant) in edges {
            waiting[dependant] += 1;
            dependants[dependency].push(dependant);
        }
        let first = |group: usize| Reverse((groups[group].iter().min(), group));
        let mut ready: BinaryHeap<_> = (0..groups.len())
            .filter(|group| waiting[*group] == 0)
            .map(first)
            .collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(Reverse((_, group))) = ready.pop() {
            order.extend(groups[group].iter().map(|index| names[*index].to_string()));
            for dependant in &dependants[group] {
                waiting[*dependant] -= 1;
                if waiting[*dependant] == 0 {
                    ready.push(first(*dependant));
                }
            }
        }
        order
    }

    /// The strongly connected groups, each in the settled order.
    fn groups(&self) -> Vec<Vec<usize>> {
        let groups = kosaraju_scc(&self.graph).into_iter();
        groups
            .map(|group| {
                let mut members: Vec<usize> =
                    group.into_iter().map(|node| self.graph[node]).collect();
                members.sort_by_key(|member| self.within[*member]);
                members
            })
            .collect()
    }

    fn by_index(&self) -> Vec<&str> {
        let mut names = vec![""; self.nodes.len()];
        for (name, index) in &self.names {
            names[*index] = name;
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn graph(count: usize, edges: &[(usize, usize)]) -> Dependencies {
        let names: Vec<String> = (0..count).map(|n| format!("c{n}")).collect();
        let mut graph = Dependencies::new(names.iter().map(String::as_str));
        for (a, b) in edges {
            graph.add(&names[*a], &names[*b]);
        }
        graph
    }

    #[test]
    fn ties_are_in_listing_order() {
        assert_eq!(
            graph(4, &[(0, 3)]).dependencies_first(),
            ["c1", "c2", "c3", "c0"]
        );
        assert_eq!(graph(3, &[]).dependencies_first(), ["c0", "c1", "c2"]);
    }

    #[test]
    fn a_circle_stays_together() {
        let graph = graph(5, &[(0, 3), (3, 0), (1, 0), (3, 4)]);
        assert_eq!(graph.circles(), [["c0", "c3"]]);
        assert_eq!(graph.dependencies_first(), ["c2", "c4", "c0", "c3", "c1"]);
    }

    #[test]
    fn within_a_circle_the_settled_order_holds() {
        let mut graph = graph(3, &[(0, 1)]);
        graph.settle();
        graph.add("c1", "c0");
        assert_eq!(graph.dependencies_first(), ["c1", "c0", "c2"]);
    }

    proptest! {
        /// On graphs without circles, every dependency comes first; and the order of edges does not matter.
        #[test]
        fn topological_and_stable(count in 1_usize..40, raw in prop::collection::vec((0_usize..40, 0_usize..40), 0..120)) {
            let edges: Vec<(usize, usize)> = raw.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a > b).collect();
            let order = graph(count, &edges).dependencies_first();
            prop_assert_eq!(order.len(), count);
            let place = |n: usize| order.iter().position(|name| *name == format!("c{n}"));
            for (dependant, dependency) in &edges {
                prop_assert!(place(*dependency) < place(*dependant));
            }
            let reversed: Vec<(usize, usize)> = edges.iter().rev().copied().collect();
            prop_assert_eq!(order, graph(count, &reversed).dependencies_first());
        }

        /// With circles, too, all components are there once, and what is outside the circle keeps its order.
        #[test]
        fn circles_lose_nothing(count in 1_usize..30, raw in prop::collection::vec((0_usize..30, 0_usize..30), 0..90)) {
            let edges: Vec<(usize, usize)> = raw.iter().map(|(a, b)| (a % count, b % count)).collect();
            let order = graph(count, &edges).dependencies_first();
            let distinct: BTreeSet<&String> = order.iter().collect();
            prop_assert_eq!((order.len(), distinct.len()), (count, count));
        }
    }
}
