//! `#[derive(Pmem)]`: see the `neurath-pmem` crate.

use proc_macro::TokenStream;
use proc_macro2::{Group, Span, TokenStream as Tokens, TokenTree};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Meta, Type, parse_macro_input};

/// Lets values of a type live in a region.
///
/// For structs with `#[repr(C)]` or `#[repr(transparent)]`, and enums with `#[repr(u8)]`,
/// `u16`, `u32` or `u64`, also with fields. Every field must be `Pmem` itself; padding does
/// not compile: so all variants of an enum must be of one size. The type must be `Copy`.
///
/// A field may refer to its own type, as the nodes of a list do: `P<Self>` or `P<Name>`,
/// also in an array. Where two types refer to each other, one of the fields needs
/// `#[pmem(link)]`: it is described by the name of its target, which stands in the other. For a
/// collection of references to the type itself, such a field has a struct of its own:
///
/// ```text
/// #[derive(Clone, Copy, Pmem)]
/// #[repr(transparent)]
/// struct Child(#[pmem(link)] P<Folder>);
///
/// #[derive(Clone, Copy, Pmem)]
/// #[repr(C)]
/// struct Folder {
///     children: Vector<Child>,
/// }
/// ```
#[proc_macro_derive(Pmem, attributes(pmem))]
pub fn derive_pmem(input: TokenStream) -> TokenStream {
    derive(input, quote! { ::neurath_pmem })
}

/// The same for whoever depends on `neurath`, which gives it the name `Pmem`: a component's crate need
/// not depend on `neurath-pmem`.
#[proc_macro_derive(ComponentPmem, attributes(pmem))]
pub fn derive_component_pmem(input: TokenStream) -> TokenStream {
    derive(input, quote! { ::neurath::pmem })
}

/// `home` is where the crate of regions is found.
fn derive(input: TokenStream, home: Tokens) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let derived = expand(&input).map(|implementation| {
        quote! {
            const _: () = {
                use #home as __pmem;
                #implementation
            };
        }
    });
    derived
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

/// What is derived, for a place that has the crate of regions as `__pmem`.
fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    if let Some(parameter) = input.generics.params.first() {
        let message = "a type in a region has a layout of its own: it cannot have parameters";
        return Err(Error::new(parameter.span(), message));
    }
    match &input.data {
        Data::Struct(data) => expand_struct(input, &data.fields),
        Data::Enum(data) => expand_enum(input, data),
        Data::Union(_) => Err(Error::new(
            input.ident.span(),
            "a union cannot live in a region: nobody could tell which of its fields is there",
        )),
    }
}

/// The words inside of `#[repr(…)]`.
fn representation(input: &DeriveInput) -> Vec<String> {
    let mut words = Vec::new();
    for attribute in &input.attrs {
        if let Meta::List(list) = &attribute.meta
            && list.path.is_ident("repr")
        {
            let text = list.tokens.to_string();
            words.extend(text.split(',').map(|word| word.trim().to_owned()));
        }
    }
    words
}

fn expand_struct(input: &DeriveInput, fields: &Fields) -> Result<Tokens, Error> {
    let name = &input.ident;
    let representation = representation(input);
    if !representation
        .iter()
        .any(|word| word == "C" || word == "transparent")
    {
        return Err(Error::new(
            name.span(),
            "a struct in a region needs `#[repr(C)]`, so that every compiler lays it out alike",
        ));
    }
    if let Some(word) = representation
        .iter()
        .find(|word| word.starts_with("packed"))
    {
        let message = format!("`{word}` cannot live in a region: its fields are not aligned");
        return Err(Error::new(name.span(), message));
    }
    let described = described_fields(fields, name)?;
    let types: Vec<&Type> = described.iter().map(|field| &field.ty).collect();
    let schemas: Vec<&Tokens> = described.iter().map(|field| &field.schema).collect();
    let members: Vec<syn::Member> = fields.members().collect();
    let names: Vec<String> = members
        .iter()
        .map(|member| match member {
            syn::Member::Named(ident) => ident.to_string(),
            syn::Member::Unnamed(index) => index.index.to_string(),
        })
        .collect();
    let text = name.to_string();
    let no_drop = no_drop(name);
    let asserts = types.iter().map(|ty| {
        quote_spanned! { ty.span() => const _: () = is_pmem::<#ty>(); }
    });
    Ok(quote! {
        const fn is_pmem<T: __pmem::Pmem>() {}
        #(#asserts)*
        #no_drop
        const _: () = assert!(
            ::core::mem::size_of::<#name>() == 0 #(+ ::core::mem::size_of::<#types>())*,
            concat!(
                "`", #text, "` has padding between or after its fields, which a region cannot \
                 hold: reorder the fields by size, or fill the gap with a field of zeros",
            ),
        );
        // SAFETY: `repr(C)` or transparent, without padding and without pointers, as every
        // field is `Pmem`; described field by field.
        unsafe impl __pmem::Pmem for #name {
            const SCHEMA: &'static __pmem::schema::TypeSchema = &__pmem::schema::TypeSchema {
                name: #text,
                size: ::core::mem::size_of::<#name>(),
                align: ::core::mem::align_of::<#name>(),
                kind: __pmem::schema::Kind::Struct(&[#(__pmem::schema::Field {
                    name: #names,
                    offset: ::core::mem::offset_of!(#name, #members),
                    schema: #schemas,
                }),*]),
            };
            const ANY_BITS: bool = true #(&& <#types as __pmem::Pmem>::ANY_BITS)*;

            fn valid(bytes: &[u8]) -> bool {
                true #(&& {
                    let at = ::core::mem::offset_of!(#name, #members);
                    <#types as __pmem::Pmem>::valid(
                        &bytes[at..at + ::core::mem::size_of::<#types>()],
                    )
                })*
            }

            fn free_owned(
                &self,
                tx: &mut __pmem::Tx<'_>,
            ) -> ::core::result::Result<(), __pmem::TxError> {
                #(__pmem::Pmem::free_owned(&self.#members, tx)?;)*
                ::core::result::Result::Ok(())
            }
        }
    })
}

fn expand_enum(input: &DeriveInput, data: &syn::DataEnum) -> Result<Tokens, Error> {
    let name = &input.ident;
    let tag = representation(input)
        .into_iter()
        .find(|word| matches!(word.as_str(), "u8" | "u16" | "u32" | "u64"));
    let Some(tag) = tag else {
        return Err(Error::new(
            name.span(),
            "an enum in a region needs `#[repr(u8)]`, `u16`, `u32` or `u64`: the size of its tag",
        ));
    };
    let tag = syn::Ident::new(&tag, Span::call_site());
    let text = name.to_string();
    let no_drop = no_drop(name);
    let mut variants = Vec::new();
    for variant in &data.variants {
        variants.push(EnumVariant::new(variant, name)?);
    }
    let types = variants.iter().flat_map(|variant| &variant.fields);
    let asserts = types.map(|DescribedField { ty, .. }| {
        quote_spanned! { ty.span() => const _: () = is_pmem::<#ty>(); }
    });
    let idents = variants.iter().map(|variant| &variant.ident);
    let values = data.variants.iter().map(|variant| {
        variant
            .discriminant
            .as_ref()
            .map(|(_, value)| quote! { = #value })
    });
    let layouts = variants
        .iter()
        .map(|variant| variant.layout(&text, name, &tag));
    let described = variants.iter().map(EnumVariant::described);
    let valid = variants.iter().map(EnumVariant::valid);
    let free = variants.iter().map(|variant| variant.free(name));
    Ok(quote! {
        const fn is_pmem<T: __pmem::Pmem>() {}
        #(#asserts)*
        #no_drop
        // The tags alone.
        #[allow(dead_code)]
        #[derive(Clone, Copy)]
        #[repr(#tag)]
        enum __Tag { #(#idents #values),* }
        #(#layouts)*
        // SAFETY: an enum with a tag of a fixed size is a union of `repr(C)` structs that
        // begin with the tag (the Reference, "Primitive representation of enums with
        // fields"), as described here; without padding, whatever the variant, and without
        // pointers, as every field is `Pmem`; and `valid` takes tags of variants with
        // values of their fields.
        unsafe impl __pmem::Pmem for #name {
            const SCHEMA: &'static __pmem::schema::TypeSchema = &__pmem::schema::TypeSchema {
                name: #text,
                size: ::core::mem::size_of::<#name>(),
                align: ::core::mem::align_of::<#name>(),
                kind: __pmem::schema::Kind::Enum {
                    tag_size: ::core::mem::size_of::<#tag>(),
                    variants: &[#(#described),*],
                },
            };
            const ANY_BITS: bool = false;

            fn valid(bytes: &[u8]) -> bool {
                let mut le = [0; ::core::mem::size_of::<#tag>()];
                le.copy_from_slice(&bytes[..::core::mem::size_of::<#tag>()]);
                let tag = #tag::from_le_bytes(le);
                false #(|| #valid)*
            }

            fn free_owned(
                &self,
                tx: &mut __pmem::Tx<'_>,
            ) -> ::core::result::Result<(), __pmem::TxError> {
                let _ = &tx;
                match self { #(#free)* }
                ::core::result::Result::Ok(())
            }
        }
    })
}

/// A variant of an enum, and a struct of the same layout, whose fields' offsets can be asked.
struct EnumVariant<'a> {
    ident: &'a syn::Ident,
    layout: syn::Ident,
    /// The fields as they are called in the enum.
    members: Vec<syn::Member>,
    /// And in the struct.
    places: Vec<syn::Ident>,
    fields: Vec<DescribedField>,
}

impl<'a> EnumVariant<'a> {
    fn new(variant: &'a syn::Variant, name: &syn::Ident) -> Result<EnumVariant<'a>, Error> {
        let ident = &variant.ident;
        let place = |at| syn::Ident::new(&format!("field_{at}"), Span::call_site());
        Ok(EnumVariant {
            ident,
            layout: syn::Ident::new(&format!("__Layout{ident}"), Span::call_site()),
            members: variant.fields.members().collect(),
            places: (0..variant.fields.len()).map(place).collect(),
            fields: described_fields(&variant.fields, name)?,
        })
    }

    fn types(&self) -> impl Iterator<Item = &Type> {
        self.fields.iter().map(|field| &field.ty)
    }

    fn layout(&self, text: &str, name: &syn::Ident, tag: &syn::Ident) -> Tokens {
        let EnumVariant {
            ident,
            layout,
            places,
            ..
        } = self;
        let types: Vec<&Type> = self.types().collect();
        let ident = ident.to_string();
        quote! {
            #[allow(dead_code)]
            #[repr(C)]
            struct #layout { tag: __Tag, #(#places: #types),* }
            const _: () = assert!(
                ::core::mem::size_of::<#name>()
                    == ::core::mem::size_of::<#tag>() #(+ ::core::mem::size_of::<#types>())*,
                concat!(
                    "`", #text, "::", #ident, "` has padding between or after its fields, which a \
                     region cannot hold: all variants must be of one size; use a larger tag, or \
                     fill the gap with a field of zeros",
                ),
            );
        }
    }

    fn described(&self) -> Tokens {
        let EnumVariant {
            ident,
            layout,
            members,
            places,
            fields,
        } = self;
        let schemas = fields.iter().map(|field| &field.schema);
        let text = ident.to_string();
        let names = members.iter().map(|member| match member {
            syn::Member::Named(ident) => ident.to_string(),
            syn::Member::Unnamed(index) => index.index.to_string(),
        });
        quote! {
            __pmem::schema::Variant {
                name: #text,
                discriminant: __Tag::#ident as u64,
                fields: &[#(__pmem::schema::Field {
                    name: #names,
                    offset: ::core::mem::offset_of!(#layout, #places),
                    schema: #schemas,
                }),*],
            }
        }
    }

    fn valid(&self) -> Tokens {
        let EnumVariant {
            ident,
            layout,
            places,
            ..
        } = self;
        let types = self.types();
        quote! {
            (tag as u64 == __Tag::#ident as u64 #(&& {
                let at = ::core::mem::offset_of!(#layout, #places);
                <#types as __pmem::Pmem>::valid(
                    &bytes[at..at + ::core::mem::size_of::<#types>()],
                )
            })*)
        }
    }

    fn free(&self, name: &syn::Ident) -> Tokens {
        let EnumVariant {
            ident,
            members,
            places,
            ..
        } = self;
        quote! {
            #name::#ident { #(#members: #places),* } => {
                #(__pmem::Pmem::free_owned(#places, tx)?;)*
            }
        }
    }
}

/// Refuses a destructor by name: that the type is not `Copy` would not say it.
fn no_drop(name: &syn::Ident) -> Tokens {
    let text = name.to_string();
    quote_spanned! { name.span() =>
        const _: () = assert!(
            !::core::mem::needs_drop::<#name>(),
            concat!(
                "`", #text, "` has a destructor (`Drop`), which nobody would run for a value in a \
                 region: remove it",
            ),
        );
    }
}

/// A field's type, `Self` replaced by its name, and how it is described.
struct DescribedField {
    ty: Type,
    schema: Tokens,
}

fn described_fields(fields: &Fields, name: &syn::Ident) -> Result<Vec<DescribedField>, Error> {
    let mut described = Vec::new();
    for field in fields {
        refuse_by_name(&field.ty)?;
        let link = is_link(field)?;
        let ty = syn::parse2(with_name(quote::ToTokens::to_token_stream(&field.ty), name))?;
        let schema = match link_schema(&ty, |target| link || target.is_ident(name)) {
            Some(schema) => schema,
            None if link => {
                let message = "`#[pmem(link)]` is for references: `P<T>`, or an array of them";
                return Err(Error::new(field.ty.span(), message));
            }
            None => {
                refuse_itself(&ty, name)?;
                quote! { <#ty as __pmem::Pmem>::SCHEMA }
            }
        };
        described.push(DescribedField { ty, schema });
    }
    Ok(described)
}

/// Whether a field has `#[pmem(link)]`.
fn is_link(field: &syn::Field) -> Result<bool, Error> {
    let mut link = false;
    for attribute in field
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("pmem"))
    {
        attribute.parse_nested_meta(|meta| {
            link = meta.path.is_ident("link");
            match link {
                true => Ok(()),
                false => Err(meta.error("there is only `#[pmem(link)]`")),
            }
        })?;
    }
    Ok(link)
}

/// `Self` means the type only inside of it: elsewhere it needs its name.
fn with_name(tokens: Tokens, name: &syn::Ident) -> Tokens {
    let named = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => {
            TokenTree::Ident(syn::Ident::new(&name.to_string(), ident.span()))
        }
        TokenTree::Group(group) => {
            let mut named = Group::new(group.delimiter(), with_name(group.stream(), name));
            named.set_span(group.span());
            TokenTree::Group(named)
        }
        other => other,
    });
    named.collect()
}

/// The description of a reference, or of an array of references, by its target's name alone,
/// if `wanted` says so: a type that is described inside of itself would have no end.
fn link_schema(ty: &Type, wanted: impl Fn(&syn::Path) -> bool) -> Option<Tokens> {
    if let Type::Array(array) = ty {
        let element = link_schema(&array.elem, wanted)?;
        let len = &array.len;
        return Some(quote! {
            &__pmem::schema::TypeSchema {
                name: "array",
                size: ::core::mem::size_of::<#ty>(),
                align: ::core::mem::align_of::<#ty>(),
                kind: __pmem::schema::Kind::Array { element: #element, len: #len },
            }
        });
    }
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "P")?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    let Some(syn::GenericArgument::Type(Type::Path(target))) = arguments.args.first() else {
        return None;
    };
    let target = &target.path;
    let text = target.segments.last()?.ident.to_string();
    wanted(target).then(|| {
        quote! {
            &__pmem::schema::TypeSchema {
                name: "P",
                size: 8,
                align: 8,
                kind: __pmem::schema::Kind::Link(#text),
            }
        }
    })
}

/// Refuses a type that is described by itself: the compiler would tell of a cycle, and of no way out.
fn refuse_itself(ty: &Type, name: &syn::Ident) -> Result<(), Error> {
    let message = match ty {
        Type::Array(array) => return refuse_itself(&array.elem, name),
        Type::Path(path) if path.path.is_ident(name) => {
            format!("a value cannot hold one of its own type: refer to it, by `P<{name}>`")
        }
        ty if mentions(ty, name) => format!(
            "`{name}` would be described by itself: give the reference a struct of its own, \
             `#[repr(transparent)] struct {name}Link(#[pmem(link)] P<{name}>);`, and use \
             `{name}Link` here",
        ),
        _ => return Ok(()),
    };
    Err(Error::new(ty.span(), message))
}

/// Whether a type is called `name`, or has a parameter that is or has one.
fn mentions(ty: &Type, name: &syn::Ident) -> bool {
    let path = match ty {
        Type::Array(array) => return mentions(&array.elem, name),
        Type::Paren(inner) => return mentions(&inner.elem, name),
        Type::Group(inner) => return mentions(&inner.elem, name),
        Type::Path(path) => &path.path,
        _ => return false,
    };
    let last = path.segments.last().map(|last| &last.arguments);
    let within = match last {
        Some(syn::PathArguments::AngleBracketed(parameters)) => parameters.args.iter().any(
            |parameter| matches!(parameter, syn::GenericArgument::Type(ty) if mentions(ty, name)),
        ),
        _ => false,
    };
    path.is_ident(name) || within
}

/// Refuses types by what they are called, with a reason: the compiler's own message,
/// that a trait is not implemented, would not give it. Looks into arrays.
fn refuse_by_name(ty: &Type) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::new(ty.span(), why));
    match ty {
        Type::Array(array) => refuse_by_name(&array.elem),
        Type::Paren(inner) => refuse_by_name(&inner.elem),
        Type::Group(inner) => refuse_by_name(&inner.elem),
        Type::Reference(_) => refuse(
            "a reference is an address of this process: use `P<T>`, which is a place in the region",
        ),
        Type::Ptr(_) => refuse(
            "a pointer is an address of this process: use `P<T>`, which is a place in the region",
        ),
        Type::BareFn(_) => refuse(
            "a function's address is another one in every library: store what tells which to call",
        ),
        Type::TraitObject(_) => refuse(
            "it leads to code of this library, which a region outlives: use an enum of what it can be",
        ),
        Type::Tuple(_) => {
            refuse("a tuple's layout is the compiler's: use a struct with `#[repr(C)]`")
        }
        Type::Slice(_) => refuse("its length is not known: use `Vector`, or an array"),
        Type::Path(path) => {
            let name = |segment: Option<&syn::PathSegment>| {
                segment.map_or_else(String::new, |segment| segment.ident.to_string())
            };
            let segments = &path.path.segments;
            // Names that a program may well give to types of its own are refused only where
            // nothing else can be meant.
            let first = name(segments.first());
            let standard = matches!(first.as_str(), "std" | "core" | "alloc");
            why_not(&name(segments.last()), standard).map_or(Ok(()), refuse)
        }
        _ => Ok(()),
    }
}

/// What to use in place of a well-known type.
fn why_not(name: &str, standard: bool) -> Option<&'static str> {
    let why = match name {
        "usize" | "isize" => "its size depends on the machine: use `u64` or `i64`, `u32` or `i32`",
        "Box" | "Rc" | "Arc" => "it points into this process's heap: use `P<T>`, and `Tx::alloc`",
        "String" | "CString" | "PathBuf" | "OsString" => {
            "it points into this process's heap: use `Bytes`"
        }
        "str" => "its length is not known: use `Bytes`",
        "Vec" | "VecDeque" | "BinaryHeap" => "it points into this process's heap: use `Vector`",
        "HashMap" | "HashSet" => "it points into this process's heap: use `Map`",
        "BTreeMap" | "BTreeSet" => "it points into this process's heap: use `OrderedMap`",
        "Option" | "Result" => {
            "its layout is the compiler's: use a value that stands for nothing, such as 0, or an \
             enum with `#[repr(u8)]` and a field of zeros"
        }
        "char" => "it is a number with a meaning: use `u32`",
        "RefCell" | "UnsafeCell" | "OnceCell" | "LazyCell" => {
            "what is in a region changes through `Tx` alone: use the value itself"
        }
        "Cell" if standard => {
            "what is in a region changes through `Tx` alone: use the value itself"
        }
        "Mutex" | "RwLock" | "OnceLock" | "LazyLock" | "Condvar" => {
            "a lock means nothing to the next process, and a region has one writer: use the value itself"
        }
        "AtomicBool" | "AtomicU8" | "AtomicU16" | "AtomicU32" | "AtomicU64" | "AtomicUsize"
        | "AtomicI8" | "AtomicI16" | "AtomicI32" | "AtomicI64" | "AtomicIsize" | "AtomicPtr" => {
            "a region has one writer, and what is in it changes through `Tx` alone: use the number"
        }
        "Instant" if standard => {
            "its zero is another one after the machine has restarted: use milliseconds since 1970, `u64`"
        }
        "SystemTime" | "Duration" if standard => {
            "its layout is the compiler's: use a number of milliseconds, `u64`"
        }
        "NonZero" | "NonZeroU8" | "NonZeroU16" | "NonZeroU32" | "NonZeroU64" => {
            "it has a hole that the compiler may use: use the number"
        }
        _ => return None,
    };
    Some(why)
}
