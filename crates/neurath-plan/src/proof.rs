//! The schema proof: every difference between two states is covered by a `code_change` for exactly that pair of types,
//! and nothing else changes. The walk is that of the node's conversion, value by value, from the root.

use crate::catalogue::Catalogue;
use crate::changes::Change;
use crate::codes;
use crate::instructions::{Call, Member, Scripts, Way};
use crate::schema::{CodeChange, FieldDesc, TypeDesc, TypeKind};
use crate::sides::Sides;
use crate::stub;
use neurath_manifest::Diagnostic;
use semver::Version;
use std::collections::{HashMap, VecDeque};

/// A difference between two states that no `code_change` covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where it is, from the root: `Store.entries[MapNode].value`.
    pub path: String,
    /// What is different there.
    pub difference: String,
    /// The old type that a `code_change` would have to take.
    pub old: TypeDesc,
    /// The new type that it would have to give.
    pub new: TypeDesc,
    /// What to do instead, where no `code_change` can cover it.
    pub remedy: Option<&'static str>,
}

/// For keys of another type.
const OTHER_KEYS: &str = "a map finds its entries by the hash of their keys, or by their order, which no code_change \
    keeps: leave this map as it is, and give the newer state one with the other keys beside it, into which its code moves \
    the entries";
/// For objects that would have to become of two types.
const TWO_TYPES: &str = "objects of one type become objects of one type, whatever refers to them, and collections of \
    the same types have theirs in common: change all these places alike, or leave this one as it is, and give the newer state \
    another one beside it, into which its code moves what is here";

/// What a conversion from one state to another amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What is not covered.
    pub gaps: Vec<Gap>,
    /// What a conversion has nowhere to put: fields and variants.
    pub lost: Vec<String>,
    /// Numbers that become smaller ones.
    pub narrowed: Vec<String>,
}

/// Compares two states, and looks for the conversions among these.
pub fn compare(old: &TypeDesc, new: &TypeDesc, conversions: &[CodeChange]) -> Comparison {
    let mut walk = Walk {
        conversions,
        objects: HashMap::new(),
        unpaired: VecDeque::new(),
        found: Comparison::default(),
    };
    walk.object(old, new, &old.name);
    walk.pair_by_type();
    walk.found
}

struct Walk<'a> {
    conversions: &'a [CodeChange],
    /// The objects that were looked at: what each type becomes.
    objects: HashMap<&'a str, &'a str>,
    /// What is paired by no name.
    unpaired: VecDeque<Unpaired<'a>>,
    found: Comparison,
}

/// Fields that only one of two versions of a type has. A `code_change` may make one of another: by another name, or in
/// another variant.
struct Unpaired<'a> {
    old: Vec<&'a FieldDesc>,
    new: Vec<&'a FieldDesc>,
    path: String,
}

impl Unpaired<'_> {
    fn at(path: &str) -> Self {
        Unpaired {
            old: Vec::new(),
            new: Vec::new(),
            path: path.to_owned(),
        }
    }
}

/// A pair of types.
type Pair<'a> = (&'a TypeDesc, &'a TypeDesc);

impl<'a> Walk<'a> {
    /// Compares objects of one type, and all that they lead to.
    fn object(&mut self, old: &'a TypeDesc, new: &'a TypeDesc, path: &str) {
        if let Some(known) = self.objects.insert(&old.fingerprint, &new.fingerprint) {
            if known != new.fingerprint {
                let what = format!("{} would have to become two types", old.name);
                self.hopeless(path, what, (old, new), TWO_TYPES);
            }
            return;
        }
        self.value((old, new), (old, new), path);
    }

    fn value(&mut self, (old, new): Pair<'a>, owner: Pair<'a>, path: &str) {
        if old.fingerprint == new.fingerprint {
            return self.below(old, new, path);
        }
        let covered = self
            .conversions
            .iter()
            .any(|one| one.from == old.fingerprint && one.to == new.fingerprint);
        if covered {
            self.losses(old, new, path);
            return self.below(old, new, path);
        }
        match (&old.kind, &new.kind) {
            (TypeKind::Reference(_) | TypeKind::Link(_), TypeKind::Reference(_))
            | (TypeKind::Link(_), TypeKind::Link(_)) => self.below(old, new, path),
            (
                TypeKind::Collection {
                    fields: a,
                    objects: c,
                },
                TypeKind::Collection {
                    fields: b,
                    objects: d,
                },
            ) if old.name == new.name && a == b && c.len() == d.len() => {
                self.below(old, new, path);
            }
            (TypeKind::Array { element: a, len: n }, TypeKind::Array { element: b, len: m })
                if n == m =>
            {
                // A row of values in a collection's own object: it is the values that have a conversion.
                let is_row = owner.0.fingerprint == old.fingerprint;
                let owner = if is_row { (&**a, &**b) } else { owner };
                self.value((a, b), owner, path);
            }
            (TypeKind::Struct(a), TypeKind::Struct(b)) if old.name == new.name => {
                self.fields((a, b), (old, new), owner, path);
            }
            _ => {
                let what = format!(
                    "{} of {} bytes became {} of {}",
                    old.name, old.size, new.name, new.size
                );
                let pair = match (&old.kind, &new.kind) {
                    (
                        TypeKind::Struct(_) | TypeKind::Enum { .. },
                        TypeKind::Struct(_) | TypeKind::Enum { .. },
                    ) => (old, new),
                    _ => owner,
                };
                self.gap(path, what, pair);
            }
        }
    }

    fn fields(
        &mut self,
        (a, b): (&'a [FieldDesc], &'a [FieldDesc]),
        pair: Pair<'a>,
        owner: Pair<'a>,
        path: &str,
    ) {
        // Nobody writes a conversion of a collection's own nodes.
        let owner = if stub::is_internal(&pair.0.name) {
            owner
        } else {
            pair
        };
        let mut differences = Vec::new();
        for gone in a.iter().filter(|a| b.iter().all(|b| a.name != b.name)) {
            differences.push(format!("`{}` was removed", gone.name));
        }
        for b in b {
            match a.iter().find(|a| a.name == b.name) {
                None => differences.push(format!("`{}` was added", b.name)),
                Some(a) if !keeps_keys(&pair.0.name, a, b) => {
                    let [old, new] = [a, b].map(|field| &element(&field.ty).name);
                    let what = format!("its keys were {old}, and are {new}");
                    self.hopeless(path, what, (&a.ty, &b.ty), OTHER_KEYS);
                }
                Some(a) => {
                    let owner = if stub::is_internal(&pair.0.name) {
                        (&a.ty, &b.ty)
                    } else {
                        owner
                    };
                    self.value((&a.ty, &b.ty), owner, &format!("{path}.{}", b.name));
                }
            }
        }
        if !differences.is_empty() {
            self.gap(path, differences.join(", "), owner);
        }
    }

    fn gap(&mut self, path: &str, difference: String, (old, new): Pair<'a>) {
        self.found.gaps.push(Gap {
            path: path.to_string(),
            difference,
            old: old.clone(),
            new: new.clone(),
            remedy: None,
        });
    }

    /// A gap that no `code_change` covers.
    fn hopeless(
        &mut self,
        path: &str,
        difference: String,
        (old, new): Pair<'a>,
        remedy: &'static str,
    ) {
        self.found.gaps.push(Gap {
            path: path.to_string(),
            difference,
            old: old.clone(),
            new: new.clone(),
            remedy: Some(remedy),
        });
    }

    /// Pairs the objects that two values lead to.
    fn below(&mut self, old: &'a TypeDesc, new: &'a TypeDesc, path: &str) {
        match (&old.kind, &new.kind) {
            (TypeKind::Struct(a), TypeKind::Struct(b)) => {
                let mut left = Unpaired::at(path);
                self.each(a, b, &mut left);
                self.unpaired.push_back(left);
            }
            (TypeKind::Array { element: a, .. }, TypeKind::Array { element: b, .. }) => {
                self.below(a, b, path);
            }
            (TypeKind::Reference(a), TypeKind::Reference(b)) => {
                self.object(a, b, &format!("{path}[{}]", a.name));
            }
            // One of another kind begins anew.
            (TypeKind::Collection { objects: a, .. }, TypeKind::Collection { objects: b, .. })
                if old.name == new.name =>
            {
                for (a, b) in a.iter().zip(b) {
                    self.object(a, b, &format!("{path}[{}]", a.name));
                }
            }
            (TypeKind::Enum { variants: a, .. }, TypeKind::Enum { variants: b, .. }) => {
                let mut left = Unpaired::at(path);
                for a in a {
                    match b.iter().find(|b| a.name == b.name) {
                        Some(b) => self.each(&a.fields, &b.fields, &mut left),
                        None => left.old.extend(&a.fields),
                    }
                }
                let added = b.iter().filter(|b| a.iter().all(|a| a.name != b.name));
                left.new.extend(added.flat_map(|variant| &variant.fields));
                self.unpaired.push_back(left);
            }
            _ => {}
        }
    }

    /// Pairs what fields of the same name lead to, and takes note of the others.
    fn each(&mut self, old: &'a [FieldDesc], new: &'a [FieldDesc], left: &mut Unpaired<'a>) {
        for a in old {
            match new.iter().find(|b| a.name == b.name) {
                Some(b) => self.below(&a.ty, &b.ty, &format!("{}.{}", left.path, a.name)),
                None => left.old.push(a),
            }
        }
        let added = new.iter().filter(|b| old.iter().all(|a| a.name != b.name));
        left.new.extend(added);
    }

    /// Pairs the objects that only fields without a partner lead to: those of one may become those of the other if all that is
    /// different there is covered. Where both lead to versions of one type, what is not covered is a gap; otherwise the field
    /// was dropped.
    fn pair_by_type(&mut self) {
        while let Some(Unpaired { old, new, path }) = self.unpaired.pop_front() {
            for a in old {
                let path = format!("{path}.{}", a.name);
                let mut found = self.objects.clone();
                for b in &new {
                    let mut other = Walk {
                        conversions: self.conversions,
                        objects: self.objects.clone(),
                        unpaired: VecDeque::new(),
                        found: Comparison::default(),
                    };
                    other.below(&a.ty, &b.ty, &path);
                    let is_covered = other.found.gaps.is_empty();
                    if !is_covered && !leads_to_versions(&a.ty, &b.ty) {
                        continue;
                    }
                    let Comparison {
                        gaps,
                        lost,
                        narrowed,
                    } = other.found;
                    self.found.gaps.extend(gaps);
                    self.found.lost.extend(lost);
                    self.found.narrowed.extend(narrowed);
                    self.unpaired.append(&mut other.unpaired);
                    for (old, new) in other.objects {
                        if *found.entry(old).or_insert(new) != new {
                            let what = format!(
                                "what `{}` leads to would have to become two types",
                                a.name
                            );
                            self.hopeless(&path, what, (&a.ty, &b.ty), TWO_TYPES);
                        }
                    }
                }
                self.objects = found;
            }
        }
    }

    /// What a conversion of one type into another has nowhere to put.
    fn losses(&mut self, old: &TypeDesc, new: &TypeDesc, path: &str) {
        match (&old.kind, &new.kind) {
            (TypeKind::Struct(a), TypeKind::Struct(b)) => {
                for a in a {
                    let inner = format!("{path}.{}", a.name);
                    match b.iter().find(|b| b.name == a.name) {
                        None => self.found.lost.push(inner),
                        Some(b) if a.ty.fingerprint != b.ty.fingerprint => {
                            self.losses(&a.ty, &b.ty, &inner);
                        }
                        Some(_) => {}
                    }
                }
            }
            (TypeKind::Enum { variants: a, .. }, TypeKind::Enum { variants: b, .. }) => {
                for a in a {
                    if b.iter().all(|b| b.name != a.name) {
                        self.found.lost.push(format!("{path}::{}", a.name));
                    }
                }
            }
            (TypeKind::Array { element: a, len: n }, TypeKind::Array { element: b, len: m }) => {
                if m < n {
                    self.found.lost.push(format!("{path}[{m}..{n}]"));
                }
                self.losses(a, b, path);
            }
            (TypeKind::Primitive, TypeKind::Primitive) if new.size < old.size => {
                let narrowed = format!("{path} from {} to {}", old.name, new.name);
                self.found.narrowed.push(narrowed);
            }
            _ => {}
        }
    }
}

/// Of a field that two versions of an object have: whether the collection that the object belongs to, if it does to one,
/// can find its entries afterwards.
fn keeps_keys(object: &str, old: &FieldDesc, new: &FieldDesc) -> bool {
    let stays = old.ty.fingerprint == new.ty.fingerprint;
    match (object, &*old.name) {
        ("MapNode", "key") => stays,
        ("OrderedLeaf" | "OrderedInner", "keys") => {
            let [old, new] = [old, new].map(|field| &element(&field.ty).name);
            stays || is_integer(old) && is_integer(new)
        }
        _ => true,
    }
}

/// The type of an array's elements.
fn element(ty: &TypeDesc) -> &TypeDesc {
    match &ty.kind {
        TypeKind::Array { element, .. } => element,
        _ => ty,
    }
}

fn is_integer(name: &str) -> bool {
    let bits = name.strip_prefix(['i', 'u']);
    bits.is_some_and(|bits| bits.parse::<u32>().is_ok())
}

/// Whether two values lead to objects of types of one name, or with such: versions of one type.
fn leads_to_versions(old: &TypeDesc, new: &TypeDesc) -> bool {
    let are_versions = |old: &TypeDesc, new: &TypeDesc| {
        let (old, new) = (element(old), element(new));
        let has_name =
            |one: &TypeDesc| matches!(one.kind, TypeKind::Struct(_) | TypeKind::Enum { .. });
        has_name(old) && has_name(new) && old.name == new.name
    };
    match (&old.kind, &new.kind) {
        (TypeKind::Array { element: a, .. }, TypeKind::Array { element: b, .. }) => {
            leads_to_versions(a, b)
        }
        (TypeKind::Reference(a), TypeKind::Reference(b)) => are_versions(a, b),
        (TypeKind::Collection { objects: a, .. }, TypeKind::Collection { objects: b, .. })
            if old.name == new.name =>
        {
            a.iter().zip(b).any(|(a, b)| match (&a.kind, &b.kind) {
                (TypeKind::Struct(a), TypeKind::Struct(b)) => a.iter().any(|a| {
                    let b = b.iter().find(|b| a.name == b.name);
                    b.is_some_and(|b| are_versions(&a.ty, &b.ty))
                }),
                _ => false,
            })
        }
        _ => false,
    }
}

/// Whether the state's schema differs; `None` when it is not known of both versions.
pub(crate) fn state_changes(
    catalogue: &Catalogue,
    component: &str,
    from: &Version,
    to: &Version,
) -> Option<bool> {
    let old = catalogue.facts(component, from)?;
    let new = catalogue.facts(component, to)?;
    Some(old.state.fingerprint != new.state.fingerprint)
}

/// Where the conversions of a call are: the newer library, or that of another component.
fn conversions<'a>(
    catalogue: &'a Catalogue,
    sides: &Sides<'_>,
    component: &str,
    newer: &Version,
    via: Option<&str>,
) -> Option<&'a [CodeChange]> {
    let facts = match via {
        Some(via) => {
            let release = sides.newer();
            let part = if std::ptr::eq(release, sides.to) {
                sides.new_one(via)
            } else {
                sides.old(via)
            };
            catalogue.facts(via, &part?.version)
        }
        None => catalogue.facts(component, newer),
    };
    facts.map(|facts| facts.code_changes.as_slice())
}

/// What a call of `code_change` amounts to; `None` if the libraries are not known.
pub(crate) fn comparison(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    component: &str,
    (from, to): (&Version, &Version),
    via: Option<&str>,
) -> Option<Comparison> {
    let old = &catalogue.facts(component, from)?.state;
    let new = &catalogue.facts(component, to)?.state;
    let known = conversions(catalogue, sides, component, from.max(to), via)?;
    Some(compare(old, new, known))
}

/// Checks every change against what the built libraries say.
pub(crate) fn check(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    ways: &[Way<'_>],
    scripts: &Scripts<'_>,
    reset: &dyn Fn(&str) -> bool,
    problems: &mut Vec<Diagnostic>,
) {
    for (change, legs) in ways {
        let name = change.component;
        let Some(member) = scripts.member(name) else {
            continue;
        };
        if reset(name) || !(sides.ran(name) && sides.will_run(name)) {
            continue;
        }
        for leg in legs {
            let call = member
                .calls
                .iter()
                .find(|call| call.from == leg.from && call.to == leg.to);
            let changes = state_changes(catalogue, name, leg.from, leg.to) == Some(true);
            match call {
                Some(call) => called(catalogue, sides, change, call, member, problems),
                None if changes => {
                    let step = Change {
                        from: leg.from,
                        to: leg.to,
                        ..*change
                    };
                    problems.push(not_asked_for(&step, |code, message| {
                        member.error(code, message, "keeps the state as it is")
                    }));
                }
                None => {}
            }
        }
        // What lies between versions without a manifest's facts may still differ as a whole.
        let whole = state_changes(catalogue, name, change.from, change.to) == Some(true);
        if whole && legs.len() > 1 && member.calls.is_empty() {
            problems.push(not_asked_for(change, |code, message| {
                member.error(code, message, "keeps the state as it is")
            }));
        }
    }
}

/// One call: it covers every difference, and what it gives is what the library declares.
fn called(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    change: &Change<'_>,
    call: &Call<'_>,
    member: &Member<'_>,
    problems: &mut Vec<Diagnostic>,
) {
    let name = change.component;
    let step = Change {
        from: call.from,
        to: call.to,
        ..*change
    };
    if let Some(via) = call.via
        && sides.old(via).is_none()
        && sides.new_one(via).is_none()
    {
        let message = format!("`via` names {via}, which is not in the newer release");
        problems.push(
            member
                .error(codes::NO_SUCH_VIA, message, "no such component")
                .help(format!("add {via} to the release, with `start = \"load\"`: its library is opened, and nothing of it runs")),
        );
        return;
    }
    if call.via.is_none() {
        wrong_results(catalogue, &step, member, problems);
    }
    let Some(found) = comparison(catalogue, sides, name, (call.from, call.to), call.via) else {
        return;
    };
    if !found.gaps.is_empty() {
        problems.push(not_covered(
            catalogue,
            &step,
            &found.gaps,
            |code, message| member.error(code, message, "asks for code_change"),
        ));
    }
}

/// Every function of the newer library leads to a type of its own state, or back from one.
fn wrong_results(
    catalogue: &Catalogue,
    change: &Change<'_>,
    member: &Member<'_>,
    problems: &mut Vec<Diagnostic>,
) {
    let (name, newer) = (change.component, change.newer());
    let Some(facts) = catalogue.facts(name, newer) else {
        return;
    };
    let own: std::collections::HashSet<&str> = facts
        .state
        .all()
        .into_iter()
        .map(|ty| ty.fingerprint.as_str())
        .collect();
    for one in &facts.code_changes {
        let (end, word, attribute) = if one.backward {
            (&one.from, "takes", "to")
        } else {
            (&one.to, "gives", "from")
        };
        if !own.contains(end.as_str()) {
            let message = format!(
                "the code_change of {name} {newer} {attribute} {} {word} a type ({end}) that its own state has not",
                one.version
            );
            problems.push(
                member
                    .error(codes::WRONG_RESULT, message, "asks for code_change")
                    .help(format!(
                        "bring the function up to date with the state of {name} {newer}, {}",
                        facts.state.fingerprint
                    )),
            );
        }
    }
}

/// The state changed, and the script keeps it as it is.
pub(crate) fn not_asked_for(
    change: &Change<'_>,
    error: impl FnOnce(&'static str, String) -> Diagnostic,
) -> Diagnostic {
    let name = change.component;
    let message = format!(
        "the state of {name} changed between {} and {}, and no code_change is asked for",
        change.from, change.to
    );
    error(codes::STATE_CHANGED, message)
        .help(format!("write {{ update = \"{name}\", change = {{ advanced = {{}} }} }}, and the code_change in {name} {}", change.newer()))
}

/// The state changed, and no migration covers it: here is the one to write.
pub(crate) fn not_covered(
    catalogue: &Catalogue,
    change: &Change<'_>,
    gaps: &[Gap],
    error: impl FnOnce(&'static str, String) -> Diagnostic,
) -> Diagnostic {
    let (name, newer) = (change.component, change.newer());
    let fingerprint = |version| {
        catalogue
            .facts(name, version)
            .map_or("", |facts| facts.state.fingerprint.as_str())
    };
    let (old, new) = (fingerprint(change.from), fingerprint(change.to));
    let mut message = format!(
        "{name} {newer} has no code_change from the state of {} ({old}) to that of {} ({new})",
        change.from, change.to
    );
    for gap in gaps {
        message.push_str(&format!("; {}: {}", gap.path, gap.difference));
    }
    let mut helps: Vec<String> = Vec::new();
    for remedy in gaps.iter().filter_map(|gap| gap.remedy) {
        if helps.iter().all(|known| known != remedy) {
            helps.push(remedy.into());
        }
    }
    let to_write: Vec<Gap> = gaps
        .iter()
        .filter(|gap| gap.remedy.is_none())
        .cloned()
        .collect();
    if !to_write.is_empty() {
        let code = stub::code_change(change.from, change.to, &to_write);
        let once = match change.from == newer {
            true => " (the module once, if the way here needs it as well)",
            false => "",
        };
        helps.push(format!(
            "paste this into {name} {newer}{once}, complete it, and add the function to `code_change = […]` of its `component!`:\n\n{code}"
        ));
    }
    error(codes::NO_MIGRATION, message).help(helps.join("\n\n"))
}
