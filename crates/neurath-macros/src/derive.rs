//! `#[derive(CodeChange)]`: the conversions between a struct and the one before it, both ways, where
//! they follow from what is declared.
//!
//! The derive does not see the older struct. It takes it apart field by field, without `..`: a field
//! that is neither carried over nor named as removed, and one that is not there, do not compile.

use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, Ident, LitStr, Path, PathArguments,
    Result, Token, Type, parenthesized,
};

/// The types that lead to objects, which are converted by their own `code_change`.
const LEADING: [&str; 4] = ["Map", "OrderedMap", "Vector", "P"];

pub(crate) fn expand(input: &DeriveInput) -> Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        let message = "only a struct's `code_change` can be derived: write a function with \
                       `#[code_change(from = \"…\")]`, and one with `to` for the way back";
        return Err(Error::new(input.ident.span(), message));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(input.ident.span(), "its fields must have names"));
    };
    if !input.generics.params.is_empty() {
        let message = "a `code_change` is between two types, and not for any type";
        return Err(Error::new(input.generics.span(), message));
    }
    let change = Change::of(input)?;
    let fields: Vec<Carried<'_>> = fields
        .named
        .iter()
        .map(Carried::of)
        .collect::<Result<_>>()?;
    let version = &change.from;
    let text = version.value();
    let suffix = text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let name = snake_case(&input.ident.unraw().to_string());
    let up = format_ident!("{name}_from_{suffix}", span = input.ident.span());
    let down = format_ident!("{name}_to_{suffix}", span = input.ident.span());
    let (new, old, visibility) = (&input.ident, &change.old, &input.vis);
    let [up_doc, down_doc] = [
        format!("A `{new}` of a state of {text}."),
        format!("A `{new}` for a state of {text}."),
    ];
    let kept = fields.iter().filter(|field| field.added.is_none());
    let old_names: Vec<&Ident> = kept.clone().map(|field| &field.old).collect();
    let removed: Vec<&Ident> = change.removed.iter().map(|one| &one.name).collect();
    let built = fields.iter().map(Carried::up);
    let new_names = fields.iter().map(|field| {
        let name = field.name;
        match field.added {
            Some(_) => quote! { #name: _ },
            None => quote! { #name },
        }
    });
    let restored = kept.map(|field| field.down(&text));
    let given = change.removed.iter().map(|one| {
        let (name, value) = (&one.name, default(one.value.as_ref()));
        quote! { #name: #value }
    });
    Ok(quote! {
        #[doc = #up_doc]
        #[::neurath::code_change(from = #version)]
        #visibility fn #up(old: #old, extra: &::neurath::Extra<'_>) -> ::neurath::Result<#new> {
            let _ = extra;
            let #old { #(#old_names,)* #(#removed: _,)* } = old;
            ::core::result::Result::Ok(#new { #(#built,)* })
        }

        #[doc = #down_doc]
        #[::neurath::code_change(to = #version)]
        #visibility fn #down(new: #new, extra: &::neurath::Extra<'_>) -> ::neurath::Result<#old> {
            let _ = extra;
            let #new { #(#new_names,)* } = new;
            ::core::result::Result::Ok(#old { #(#restored,)* #(#given,)* })
        }
    })
}

/// What is said of the struct.
struct Change {
    from: LitStr,
    old: Path,
    removed: Vec<Removed>,
}

/// A field that only the older struct has, and what it gets on the way back.
struct Removed {
    name: Ident,
    value: Option<Expr>,
}

impl Parse for Removed {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Removed {
            name: input.parse()?,
            value: match input.parse::<Option<Token![=]>>()? {
                Some(_) => Some(input.parse()?),
                None => None,
            },
        })
    }
}

/// The one `#[change(…)]` of an item.
fn attribute(attributes: &[Attribute]) -> Result<Option<&Attribute>> {
    let mut found = attributes
        .iter()
        .filter(|one| one.path().is_ident("change"));
    let first = found.next();
    match found.next() {
        Some(second) => Err(Error::new(
            second.span(),
            "one `change`: longer ways lead through the versions between",
        )),
        None => Ok(first),
    }
}

impl Change {
    fn of(input: &DeriveInput) -> Result<Change> {
        let shape = "`#[change(from = \"1.0\", old = v1_0::Store)]`: the version before, and the \
                     struct as it was there";
        let Some(attribute) = attribute(&input.attrs)? else {
            return Err(Error::new(input.ident.span(), shape));
        };
        let (mut from, mut old, mut removed) = (None, None, Vec::new());
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("from") {
                from = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("old") {
                old = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("removed") {
                let list;
                parenthesized!(list in meta.input);
                let names = Punctuated::<Removed, Token![,]>::parse_terminated(&list)?;
                removed.extend(names);
            } else {
                return Err(meta.error("there are `from`, `old` and `removed(…)`"));
            }
            Ok(())
        })?;
        match (from, old) {
            (Some(from), Some(old)) => Ok(Change { from, old, removed }),
            _ => Err(Error::new(attribute.span(), shape)),
        }
    }
}

/// A field of the newer struct.
struct Carried<'a> {
    name: &'a Ident,
    /// What it was called.
    old: Ident,
    /// It is new, and what it begins with.
    added: Option<Option<Expr>>,
    /// The narrower type that it had.
    widened: Option<Type>,
    /// The conversions of its own type, there and back.
    converted: Option<[Path; 2]>,
    ty: &'a Type,
}

impl<'a> Carried<'a> {
    fn of(field: &'a Field) -> Result<Carried<'a>> {
        let Some(name) = &field.ident else {
            return Err(Error::new(field.span(), "its fields must have names"));
        };
        let mut carried = Carried {
            name,
            old: name.clone(),
            added: None,
            widened: None,
            converted: None,
            ty: &field.ty,
        };
        let Some(attribute) = attribute(&field.attrs)? else {
            return Ok(carried);
        };
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("added") {
                carried.added = Some(match meta.input.peek(Token![=]) {
                    true => Some(meta.value()?.parse()?),
                    false => None,
                });
            } else if meta.path.is_ident("renamed") {
                carried.old = meta.value()?.parse()?;
            } else if meta.path.is_ident("widened") {
                carried.widened = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("converted") {
                let list;
                parenthesized!(list in meta.input);
                let functions = Punctuated::<Path, Token![,]>::parse_terminated(&list)?;
                let functions: Vec<Path> = functions.into_iter().collect();
                let functions = functions.try_into();
                carried.converted = Some(functions.map_err(|_| {
                    meta.error("`converted(UP, DOWN)`: its `code_change`, and that of the way back")
                })?);
            } else {
                return Err(meta.error(
                    "there are `added`, `added = VALUE`, `renamed = OLD`, `widened = OLD_TYPE` and \
                     `converted(UP, DOWN)`",
                ));
            }
            Ok(())
        })?;
        let changed = carried.widened.is_some() || carried.converted.is_some();
        if carried.added.is_some() && (carried.old != *name || changed) {
            let message = "a field that is added has no older name or type";
            return Err(Error::new(attribute.span(), message));
        }
        if carried.widened.is_some() && carried.converted.is_some() {
            let message = "a field is widened, or converted by its own `code_change`";
            return Err(Error::new(attribute.span(), message));
        }
        Ok(carried)
    }

    /// Its value, of the other version's type. What it leads to is converted by itself.
    fn carry(&self, value: &Ident, function: usize) -> Tokens {
        match &self.converted {
            Some(functions) => {
                let made = converted(self.ty, &quote! { #value }, &functions[function]);
                quote! { #made? }
            }
            None => carried_over(self.ty, &quote! { #value }),
        }
    }

    /// The newer struct's field.
    fn up(&self) -> Tokens {
        let Carried {
            name,
            old,
            added,
            widened,
            ty,
            ..
        } = self;
        let value = match (added, widened) {
            (Some(value), _) => default(value.as_ref()),
            (None, Some(narrow)) => {
                quote_spanned! { ty.span() => <#ty as ::core::convert::From<#narrow>>::from(#old) }
            }
            (None, None) => self.carry(old, 0),
        };
        quote! { #name: #value }
    }

    /// The older struct's field.
    fn down(&self, version: &str) -> Tokens {
        let Carried {
            name,
            old,
            widened,
            ty,
            ..
        } = self;
        let value = match widened {
            Some(narrow) => {
                let text = format!("{version} has no room for a `{name}` of ");
                let narrowed = match is_float(ty) {
                    true => quote! { ::neurath::entry::Narrowed::<#narrow>::narrowed(#name) },
                    false => {
                        quote! { <#narrow as ::core::convert::TryFrom<#ty>>::try_from(#name).ok() }
                    }
                };
                quote_spanned! { ty.span() =>
                    #narrowed
                        .ok_or_else(|| ::neurath::Error::new(::std::format!("{}{}", #text, #name)))?
                }
            }
            None => self.carry(name, 1),
        };
        quote! { #old: #value }
    }
}

/// A value of the other version's type: with a type of parameters, what it leads to changes.
fn carried_over(ty: &Type, value: &Tokens) -> Tokens {
    if leads_on(ty) {
        return quote! { #value.carry_over() };
    }
    let element = elements(ty).map(|element| carried_over(element, &quote! { one }));
    match element {
        Some(element) if element.to_string() != "one" => quote! { #value.map(|one| #element) },
        _ => quote! { #value },
    }
}

/// A value made by the conversion of its type, or the values of an array by that of theirs: a `Result`.
fn converted(ty: &Type, value: &Tokens, function: &Path) -> Tokens {
    match elements(ty) {
        Some(element) => {
            let one = converted(element, &quote! { one }, function);
            quote! { ::neurath::entry::convert_each(#value, |one| #one) }
        }
        None => {
            let function = crate::named_after(function, crate::conversion_name);
            quote! { #function(#value, extra) }
        }
    }
}

/// Whether it is a floating-point type, for which there is no `TryFrom`.
fn is_float(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("f32") || path.path.is_ident("f64"))
}

fn elements(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Array(array) => Some(&array.elem),
        _ => None,
    }
}

/// Whether what a value leads to is converted by itself. A `Vector` without a parameter is somebody's own.
fn leads_on(ty: &Type) -> bool {
    let Type::Path(path) = ty else {
        return false;
    };
    let last = path.path.segments.last();
    last.is_some_and(|last| {
        LEADING.iter().any(|name| last.ident == name)
            && matches!(last.arguments, PathArguments::AngleBracketed(_))
    })
}

fn default(value: Option<&Expr>) -> Tokens {
    match value {
        Some(value) => quote! { #value },
        None => quote! { ::core::default::Default::default() },
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
