//! `#[derive(Pmem)]`: see the `neurath-pmem` crate.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Meta, Type, parse_macro_input};

/// Lets values of a type live in a region.
///
/// For structs with `#[repr(C)]` or `#[repr(transparent)]`, and enums with `#[repr(u8)]`,
/// `u16`, `u32` or `u64`, also with fields. Every field must be `Pmem` itself; padding does
/// not compile: so all variants of an enum must be of one size. The type must be `Copy`.
#[proc_macro_derive(Pmem)]
pub fn derive_pmem(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

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
    for field in fields {
        refuse_by_name(&field.ty)?;
    }
    let types: Vec<&Type> = fields.iter().map(|field| &field.ty).collect();
    let members: Vec<syn::Member> = fields.members().collect();
    let names: Vec<String> = members
        .iter()
        .map(|member| match member {
            syn::Member::Named(ident) => ident.to_string(),
            syn::Member::Unnamed(index) => index.index.to_string(),
        })
        .collect();
    let text = name.to_string();
    let asserts = types.iter().map(|ty| {
        quote_spanned! { ty.span() => const _: () = is_pmem::<#ty>(); }
    });
    Ok(quote! {
        const _: () = {
            const fn is_pmem<T: ::neurath_pmem::Pmem>() {}
            #(#asserts)*
            const _: () = assert!(
                ::core::mem::size_of::<#name>() == 0 #(+ ::core::mem::size_of::<#types>())*,
                concat!(
                    "`", #text, "` has padding between or after its fields, which a region cannot \
                     hold: reorder the fields by size, or fill the gap with a field of zeros",
                ),
            );
            // SAFETY: `repr(C)` or transparent, without padding and without pointers, as every
            // field is `Pmem`; described field by field.
            unsafe impl ::neurath_pmem::Pmem for #name {
                const SCHEMA: &'static ::neurath_pmem::schema::TypeSchema = &::neurath_pmem::schema::TypeSchema {
                    name: #text,
                    size: ::core::mem::size_of::<#name>(),
                    align: ::core::mem::align_of::<#name>(),
                    kind: ::neurath_pmem::schema::Kind::Struct(&[#(::neurath_pmem::schema::Field {
                        name: #names,
                        offset: ::core::mem::offset_of!(#name, #members),
                        schema: <#types as ::neurath_pmem::Pmem>::SCHEMA,
                    }),*]),
                };
                const ANY_BITS: bool = true #(&& <#types as ::neurath_pmem::Pmem>::ANY_BITS)*;

                fn valid(bytes: &[u8]) -> bool {
                    true #(&& {
                        let at = ::core::mem::offset_of!(#name, #members);
                        <#types as ::neurath_pmem::Pmem>::valid(
                            &bytes[at..at + ::core::mem::size_of::<#types>()],
                        )
                    })*
                }

                fn free_owned(
                    &self,
                    tx: &mut ::neurath_pmem::Tx<'_>,
                ) -> ::core::result::Result<(), ::neurath_pmem::TxError> {
                    #(::neurath_pmem::Pmem::free_owned(&self.#members, tx)?;)*
                    ::core::result::Result::Ok(())
                }
            }
        };
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
    for field in data.variants.iter().flat_map(|variant| &variant.fields) {
        refuse_by_name(&field.ty)?;
    }
    let types = data
        .variants
        .iter()
        .flat_map(|variant| variant.fields.iter().map(|field| &field.ty));
    let asserts = types.map(|ty| {
        quote_spanned! { ty.span() => const _: () = is_pmem::<#ty>(); }
    });
    let variants: Vec<EnumVariant<'_>> = data.variants.iter().map(EnumVariant::new).collect();
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
        const _: () = {
            const fn is_pmem<T: ::neurath_pmem::Pmem>() {}
            #(#asserts)*
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
            unsafe impl ::neurath_pmem::Pmem for #name {
                const SCHEMA: &'static ::neurath_pmem::schema::TypeSchema = &::neurath_pmem::schema::TypeSchema {
                    name: #text,
                    size: ::core::mem::size_of::<#name>(),
                    align: ::core::mem::align_of::<#name>(),
                    kind: ::neurath_pmem::schema::Kind::Enum {
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
                    tx: &mut ::neurath_pmem::Tx<'_>,
                ) -> ::core::result::Result<(), ::neurath_pmem::TxError> {
                    let _ = &tx;
                    match self { #(#free)* }
                    ::core::result::Result::Ok(())
                }
            }
        };
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
    types: Vec<&'a Type>,
}

impl<'a> EnumVariant<'a> {
    fn new(variant: &'a syn::Variant) -> EnumVariant<'a> {
        let ident = &variant.ident;
        let place = |at| syn::Ident::new(&format!("field_{at}"), Span::call_site());
        EnumVariant {
            ident,
            layout: syn::Ident::new(&format!("__Layout{ident}"), Span::call_site()),
            members: variant.fields.members().collect(),
            places: (0..variant.fields.len()).map(place).collect(),
            types: variant.fields.iter().map(|field| &field.ty).collect(),
        }
    }

    fn layout(&self, text: &str, name: &syn::Ident, tag: &syn::Ident) -> Tokens {
        let EnumVariant {
            ident,
            layout,
            places,
            types,
            ..
        } = self;
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
            types,
        } = self;
        let text = ident.to_string();
        let names = members.iter().map(|member| match member {
            syn::Member::Named(ident) => ident.to_string(),
            syn::Member::Unnamed(index) => index.index.to_string(),
        });
        quote! {
            ::neurath_pmem::schema::Variant {
                name: #text,
                discriminant: __Tag::#ident as u64,
                fields: &[#(::neurath_pmem::schema::Field {
                    name: #names,
                    offset: ::core::mem::offset_of!(#layout, #places),
                    schema: <#types as ::neurath_pmem::Pmem>::SCHEMA,
                }),*],
            }
        }
    }

    fn valid(&self) -> Tokens {
        let EnumVariant {
            ident,
            layout,
            places,
            types,
            ..
        } = self;
        quote! {
            (tag as u64 == __Tag::#ident as u64 #(&& {
                let at = ::core::mem::offset_of!(#layout, #places);
                <#types as ::neurath_pmem::Pmem>::valid(
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
                #(::neurath_pmem::Pmem::free_owned(#places, tx)?;)*
            }
        }
    }
}

/// Refuses types by what they are called, with a reason: the compiler's own message,
/// that a trait is not implemented, would not give it.
fn refuse_by_name(ty: &Type) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::new(ty.span(), why));
    match ty {
        Type::Reference(_) => refuse(
            "a reference is an address of this process: use `P<T>`, which is a place in the region",
        ),
        Type::Ptr(_) => refuse(
            "a pointer is an address of this process: use `P<T>`, which is a place in the region",
        ),
        Type::BareFn(_) => refuse(
            "a function's address is another one in every library: store what tells which to call",
        ),
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else {
                return Ok(());
            };
            match last.ident.to_string().as_str() {
                "usize" | "isize" => {
                    refuse("its size depends on the machine: use `u64` or `i64`, `u32` or `i32`")
                }
                "Box" | "Rc" | "Arc" => {
                    refuse("it points into this process's heap: use `P<T>`, and `Tx::alloc`")
                }
                "String" => refuse("it points into this process's heap: use `Bytes`"),
                "Vec" | "VecDeque" => refuse("it points into this process's heap: use `Vector`"),
                "HashMap" | "HashSet" => refuse("it points into this process's heap: use `Map`"),
                "BTreeMap" | "BTreeSet" => {
                    refuse("it points into this process's heap: use `OrderedMap`")
                }
                "Option" => refuse(
                    "its layout is the compiler's: use a value that stands for nothing, such as 0",
                ),
                "char" => refuse("it is a number with a meaning: use `u32`"),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
