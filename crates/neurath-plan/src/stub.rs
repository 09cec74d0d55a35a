//! The `code_change` that would cover a difference, as Rust code to paste into the newer version's library.

use crate::proof::Gap;
use crate::schema::{FieldDesc, TypeDesc, TypeKind};
use semver::Version;
use std::collections::HashSet;
use std::fmt::Write as _;

/// Whether this is a type that a collection makes for itself.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(
        name,
        "MapNode" | "MapPage" | "OrderedLeaf" | "OrderedInner" | "VectorPage" | "VectorIndex"
    )
}

/// The functions that would cover these differences, and the older version's types in a module of their own. What can be
/// carried over is written; the rest is marked, and does not compile into anything that runs unseen.
pub fn code_change(from: &Version, to: &Version, gaps: &[Gap]) -> String {
    let up = to > from;
    let older = from.min(to);
    let module = format!("v{}_{}", older.major, older.minor);
    let mut pairs: Vec<(&TypeDesc, &TypeDesc)> = Vec::new();
    for gap in gaps {
        let pair = (&gap.old, &gap.new);
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    // The library is the newer one: it has the newer types, and tells of the older ones.
    let newer: HashSet<&str> = pairs
        .iter()
        .flat_map(|(old, new)| if up { new } else { old }.all())
        .map(|ty| ty.fingerprint.as_str())
        .collect();
    let mut out = types(&module, older, &pairs, up, &newer);
    for (old, new) in &pairs {
        out.push('\n');
        function(&mut out, &module, older, up, (old, new), &newer, &pairs);
    }
    out
}

/// What the conversion to this type is called.
fn function_name(new: &TypeDesc, older: &Version, up: bool) -> String {
    let word = if up { "from" } else { "to" };
    format!(
        "{}_{word}_{}_{}",
        snake(&new.name),
        older.major,
        older.minor
    )
}

/// The module with the older types.
fn types(
    module: &str,
    older: &Version,
    pairs: &[(&TypeDesc, &TypeDesc)],
    up: bool,
    newer: &HashSet<&str>,
) -> String {
    let mut told: Vec<&TypeDesc> = Vec::new();
    for (old, new) in pairs {
        for ty in if up { old } else { new }.all() {
            let own = matches!(ty.kind, TypeKind::Struct(_) | TypeKind::Enum { .. })
                && !is_internal(&ty.name)
                && !newer.contains(ty.fingerprint.as_str());
            if own && !told.iter().any(|known| known.name == ty.name) {
                told.push(ty);
            }
        }
    }
    if told.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for ty in told {
        let (keyword, body) = match &ty.kind {
            TypeKind::Struct(fields) => ("struct", struct_body(fields, newer)),
            TypeKind::Enum { variants, .. } => {
                let mut body = String::new();
                for variant in variants {
                    let fields = if variant.fields.is_empty() {
                        String::new()
                    } else if is_tuple(&variant.fields) {
                        format!("({})", tuple(&variant.fields, "", newer))
                    } else {
                        let fields: Vec<String> = variant
                            .fields
                            .iter()
                            .map(|field| format!("{}: {}", field.name, rust(&field.ty, newer)))
                            .collect();
                        format!(" {{ {} }}", fields.join(", "))
                    };
                    let (name, tag) = (&variant.name, variant.tag);
                    let _ = writeln!(body, "        {name}{fields} = {tag},");
                }
                ("enum", format!(" {{\n{body}    }}"))
            }
            _ => continue,
        };
        let representation = match &ty.kind {
            TypeKind::Enum { tag_size, .. } => format!("#[repr(u{})]", u32::from(*tag_size) * 8),
            _ => "#[repr(C)]".to_owned(),
        };
        let _ = write!(
            out,
            "\n    #[derive(Clone, Copy, Debug, Pmem)]\n    {representation}\n    pub {keyword} {}{body}\n",
            ty.name
        );
    }
    format!(
        "/// The state as {}.{} wrote it.\npub mod {module} {{\n    use neurath::{};\n{out}}}\n",
        older.major,
        older.minor,
        uses(&out)
    )
}

/// What of the SDK a text names.
fn uses(text: &str) -> String {
    let words: HashSet<&str> = text
        .split(|char: char| !char.is_alphanumeric() && char != '_')
        .collect();
    let known = ["Bytes", "Map", "OrderedMap", "P", "Pmem", "Vector"];
    let used: Vec<&str> = known
        .into_iter()
        .filter(|one| words.contains(one))
        .collect();
    match used.as_slice() {
        [one] => (*one).to_string(),
        several => format!("{{{}}}", several.join(", ")),
    }
}

fn struct_body(fields: &[FieldDesc], newer: &HashSet<&str>) -> String {
    if is_tuple(fields) {
        return format!("({});", tuple(fields, "pub ", newer));
    }
    let lines = fields
        .iter()
        .map(|field| format!("        pub {}: {},\n", field.name, rust(&field.ty, newer)));
    format!(" {{\n{}    }}", lines.collect::<String>())
}

/// Whether the fields have numbers and no names.
fn is_tuple(fields: &[FieldDesc]) -> bool {
    fields.first().is_some_and(|field| field.name == "0")
}

fn tuple(fields: &[FieldDesc], before: &str, newer: &HashSet<&str>) -> String {
    let types = fields
        .iter()
        .map(|field| format!("{before}{}", rust(&field.ty, newer)));
    types.collect::<Vec<_>>().join(", ")
}

/// A type as it is written inside the module of the older ones.
pub(crate) fn rust(ty: &TypeDesc, newer: &HashSet<&str>) -> String {
    match &ty.kind {
        TypeKind::Primitive => ty.name.clone(),
        TypeKind::Struct(_) | TypeKind::Enum { .. } => {
            if newer.contains(ty.fingerprint.as_str()) {
                format!("super::{}", ty.name)
            } else {
                ty.name.clone()
            }
        }
        TypeKind::Array { element, len } => format!("[{}; {len}]", rust(element, newer)),
        TypeKind::Reference(object) => format!("P<{}>", rust(object, newer)),
        TypeKind::Link(name) => format!("P<{name}>"),
        TypeKind::Collection { objects, .. } => collection(ty, objects, newer),
    }
}

/// A collection with the types of its elements, which its own nodes tell.
fn collection(ty: &TypeDesc, objects: &[TypeDesc], newer: &HashSet<&str>) -> String {
    let field = |object: &str, name: &str| -> Option<&TypeDesc> {
        let object = objects.iter().find(|one| one.name == object)?;
        let TypeKind::Struct(fields) = &object.kind else {
            return None;
        };
        let ty = &fields.iter().find(|field| field.name == name)?.ty;
        Some(match &ty.kind {
            TypeKind::Array { element, .. } if object.name != "MapNode" => element,
            _ => ty,
        })
    };
    let of = |object: &str, names: &[&str]| -> Option<String> {
        let types: Option<Vec<String>> = names
            .iter()
            .map(|name| field(object, name).map(|ty| rust(ty, newer)))
            .collect();
        Some(format!("{}<{}>", ty.name, types?.join(", ")))
    };
    let found = match ty.name.as_str() {
        "Map" => of("MapNode", &["key", "value"]),
        "OrderedMap" => of("OrderedLeaf", &["keys", "values"]),
        "Vector" => of("VectorPage", &["elements"]),
        _ => None,
    };
    found.unwrap_or_else(|| ty.name.clone())
}

/// One function.
fn function(
    out: &mut String,
    module: &str,
    older: &Version,
    up: bool,
    (old, new): (&TypeDesc, &TypeDesc),
    newer: &HashSet<&str>,
    pairs: &[(&TypeDesc, &TypeDesc)],
) {
    let told = |ty: &TypeDesc, of_module: bool| {
        let own = matches!(ty.kind, TypeKind::Struct(_) | TypeKind::Enum { .. });
        let plain = rust(ty, newer).replace("super::", "");
        if own && of_module {
            format!("{module}::{plain}")
        } else {
            plain
        }
    };
    let (old_name, new_name) = (told(old, up), told(new, !up));
    let attribute = if up { "from" } else { "to" };
    let version = format!("{}.{}", older.major, older.minor);
    let name = function_name(new, older, up);
    let within = |old: &TypeDesc, new: &TypeDesc| {
        let is = |pair: &&(&TypeDesc, &TypeDesc)| {
            pair.0.fingerprint == old.fingerprint && pair.1.fingerprint == new.fingerprint
        };
        let found = pairs.iter().find(is);
        found.map(|(_, new)| function_name(new, older, up))
    };
    let body = match (&old.kind, &new.kind) {
        (TypeKind::Struct(a), TypeKind::Struct(b)) => {
            let mut body = format!("    {new_name} {{\n");
            for b in b {
                let _ = writeln!(body, "        {}: {},", b.name, carried(a, b, &within));
            }
            for gone in a.iter().filter(|a| b.iter().all(|b| b.name != a.name)) {
                let _ = writeln!(body, "        // `old.{}` has no place here.", gone.name);
            }
            body.push_str("    }\n");
            body
        }
        _ if widens(&old.name, &new.name) => "    old.into()\n".to_string(),
        _ => "    todo!(\"make the new value of `old`\")\n".to_string(),
    };
    let _ = write!(
        out,
        "#[code_change({attribute} = \"{version}\")]\nfn {name}(old: {old_name}) -> {new_name} {{\n{body}}}\n"
    );
}

/// What becomes of a field. What stands within a value is converted by the value's conversion.
fn carried(
    old: &[FieldDesc],
    new: &FieldDesc,
    within: &dyn Fn(&TypeDesc, &TypeDesc) -> Option<String>,
) -> String {
    match old.iter().find(|field| field.name == new.name) {
        // The objects are converted by themselves; what leads to them stays as it is, and names another type.
        Some(field) if is_reference(&field.ty, &new.ty) => format!("old.{}.carry_over()", new.name),
        Some(field) if are_references(&field.ty, &new.ty) => {
            format!("old.{}.map(|one| one.carry_over())", new.name)
        }
        Some(field) if field.ty.fingerprint == new.ty.fingerprint => format!("old.{}", new.name),
        Some(field) => changed(field, new, within),
        None => match &new.ty.kind {
            TypeKind::Collection { .. } => format!("{}::EMPTY", new.ty.name),
            _ => "todo!(\"there was nothing here\")".to_string(),
        },
    }
}

/// A field whose type changed.
fn changed(
    field: &FieldDesc,
    new: &FieldDesc,
    within: &dyn Fn(&TypeDesc, &TypeDesc) -> Option<String>,
) -> String {
    if let Some(function) = within(&field.ty, &new.ty) {
        return format!("{function}(old.{})", new.name);
    }
    if let (TypeKind::Array { element: a, len: n }, TypeKind::Array { element: b, len: m }) =
        (&field.ty.kind, &new.ty.kind)
        && n == m
        && let Some(function) = within(a, b)
    {
        return format!("old.{}.map({function})", new.name);
    }
    match (&field.ty.kind, &new.ty.kind) {
        (TypeKind::Primitive, TypeKind::Primitive) if widens(&field.ty.name, &new.ty.name) => {
            format!("old.{}.into()", new.name)
        }
        (TypeKind::Collection { .. }, TypeKind::Collection { .. })
            if field.ty.name == new.ty.name && field.ty.name != "Bytes" =>
        {
            format!("old.{}.carry_over()", new.name)
        }
        _ => format!("todo!(\"from `old.{}`\")", new.name),
    }
}

/// Whether both refer to an object of the same name.
fn is_reference(old: &TypeDesc, new: &TypeDesc) -> bool {
    let target = |ty: &TypeDesc| match &ty.kind {
        TypeKind::Reference(object) => Some(object.name.clone()),
        TypeKind::Link(name) => Some(name.clone()),
        _ => None,
    };
    target(old).is_some_and(|name| target(new) == Some(name))
}

/// Whether both are arrays of as many such references.
fn are_references(old: &TypeDesc, new: &TypeDesc) -> bool {
    match (&old.kind, &new.kind) {
        (TypeKind::Array { element: a, len: n }, TypeKind::Array { element: b, len: m }) => {
            n == m && is_reference(a, b)
        }
        _ => false,
    }
}

/// Whether every value of one number is one of the other, and `Into` knows it.
fn widens(old: &str, new: &str) -> bool {
    let parse = |name: &str| -> Option<(char, u32)> {
        let kind = name.chars().next()?;
        Some((kind, name.get(1..)?.parse().ok()?))
    };
    match (parse(old), parse(new)) {
        (Some((a, n)), Some((b, m))) => m > n && (a == b || (a == 'u' && b == 'i')),
        _ => false,
    }
}

/// `StoreEntry` as `store_entry`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for (index, char) in name.char_indices() {
        if char.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(char.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::VariantDesc;

    fn ty(name: &str, fingerprint: &str, kind: TypeKind) -> TypeDesc {
        TypeDesc {
            name: name.into(),
            size: 8,
            fingerprint: fingerprint.into(),
            kind,
        }
    }

    fn fields(fields: Vec<(&str, TypeDesc)>) -> Vec<FieldDesc> {
        let field = |(name, ty): (&str, TypeDesc)| FieldDesc {
            name: name.into(),
            offset: 0,
            ty,
        };
        fields.into_iter().map(field).collect()
    }

    /// A tree whose nodes refer to nodes, and whose label is a tuple, with a weight of some type.
    fn tree(version: &str, weight: &str) -> TypeDesc {
        let number = |name: &str| ty(name, name, TypeKind::Primitive);
        let link = || ty("P", "link", TypeKind::Link("Tree".into()));
        let children = TypeKind::Array {
            element: link().into(),
            len: 2,
        };
        let label = fields(vec![("0", number("u32")), ("1", number(weight))]);
        let shape = VariantDesc {
            name: "Dot".into(),
            tag: 1,
            fields: fields(vec![("0", number(weight))]),
        };
        let shape = TypeKind::Enum {
            tag_size: 4,
            variants: vec![shape],
        };
        let of = |name: &str| format!("{name} {version}");
        let fields = fields(vec![
            ("parent", link()),
            ("children", ty("array", "links", children)),
            ("label", ty("Label", &of("label"), TypeKind::Struct(label))),
            ("shape", ty("Shape", &of("shape"), shape)),
        ]);
        ty("Tree", &of("tree"), TypeKind::Struct(fields))
    }

    #[test]
    fn a_stub_compiles_where_types_refer_to_themselves_and_have_numbers_for_names() {
        let gap = Gap {
            path: "Tree".into(),
            difference: String::new(),
            old: tree("1", "u32"),
            new: tree("2", "i32"),
            remedy: None,
        };
        let code = code_change(&Version::new(1, 0, 0), &Version::new(1, 1, 0), &[gap]);
        for line in [
            "        label: todo!(\"from `old.label`\"),",
            "    pub struct Label(pub u32, pub u32);",
            "        Dot(u32) = 1,",
            "        parent: old.parent.carry_over(),",
            "        children: old.children.map(|one| one.carry_over()),",
            "        pub parent: P<Tree>,",
        ] {
            assert!(code.contains(&format!("{line}\n")), "{line} in {code}");
        }
    }

    #[test]
    fn what_stands_within_is_converted_by_its_own_function() {
        let number = |name: &str| ty(name, name, TypeKind::Primitive);
        let leaf = |version: &str, number: TypeDesc| {
            let fields = fields(vec![("x", number)]);
            ty("Leaf", version, TypeKind::Struct(fields))
        };
        let outer = |version: &str, number: &TypeDesc| {
            let element = leaf(version, number.clone()).into();
            let leaves = TypeKind::Array { element, len: 3 };
            let fields = fields(vec![
                ("leaf", leaf(version, number.clone())),
                ("leaves", ty("array", &format!("leaves {version}"), leaves)),
            ]);
            ty(
                "Outer",
                &format!("outer {version}"),
                TypeKind::Struct(fields),
            )
        };
        let (narrow, wide) = (number("u32"), number("u64"));
        let pairs = [
            (outer("1", &narrow), outer("2", &wide)),
            (leaf("1", narrow.clone()), leaf("2", wide.clone())),
            (narrow, wide),
        ];
        let gaps = pairs.map(|(old, new)| Gap {
            path: String::new(),
            difference: String::new(),
            old,
            new,
            remedy: None,
        });
        let code = code_change(&Version::new(1, 0, 0), &Version::new(1, 1, 0), &gaps);
        for text in [
            "        leaf: leaf_from_1_0(old.leaf),\n        leaves: old.leaves.map(leaf_from_1_0),\n",
            "fn u64_from_1_0(old: u32) -> u64 {\n    old.into()\n}\n",
        ] {
            assert!(code.contains(text), "{text} in {code}");
        }
    }
}
