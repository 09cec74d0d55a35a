//! `component!`, `#[code_change]`, `#[derive(CodeChange)]`, `#[move_out]` and `#[move_in]`: see the `neurath` crate.

mod derive;
mod moves;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, Ident, ItemFn, LitStr, Path, PathArguments, ReturnType, Token,
    Type, bracketed, parse_macro_input,
};

/// Exports a component from its library.
///
/// `component!(Store, name = "store", version = "1.1.0", code_change = [from_1_0, to_1_0], hooks = [warm],
/// moves = [counters_out, counters_in]);`
///
/// A hook is a function that an upgrade can call by its name: `fn warm(cx: &mut Context<Store>, args: Args)
/// -> Result<()>`, where `Args` is read from the table of the instruction; `()` for none.
#[proc_macro]
pub fn component(input: TokenStream) -> TokenStream {
    let component = parse_macro_input!(input as ComponentArgs);
    expand_component(&component).into()
}

struct ComponentArgs {
    state: Type,
    name: LitStr,
    version: LitStr,
    code_change: Vec<Path>,
    hooks: Vec<Path>,
    moves: Vec<Path>,
}

impl Parse for ComponentArgs {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let state: Type = input.parse()?;
        let (mut name, mut version) = (None, None);
        let (mut code_change, mut hooks, mut moves) = (Vec::new(), Vec::new(), Vec::new());
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            match key.to_string().as_str() {
                "name" => name = Some(input.parse()?),
                "version" => version = Some(input.parse()?),
                "code_change" => code_change = paths(input)?,
                "hooks" => hooks = paths(input)?,
                "moves" => moves = paths(input)?,
                _ => {
                    let message = "there are `name`, `version`, `code_change`, `hooks` and `moves`";
                    return Err(Error::new(key.span(), message));
                }
            }
        }
        let missing = |key: &str| {
            input.error(format!(
                "`{key} = \"…\"` is missing, as in the component's manifest"
            ))
        };
        Ok(ComponentArgs {
            state,
            name: name.ok_or_else(|| missing("name"))?,
            version: version.ok_or_else(|| missing("version"))?,
            code_change,
            hooks,
            moves,
        })
    }
}

/// A list of functions in brackets.
fn paths(input: ParseStream<'_>) -> syn::Result<Vec<Path>> {
    let list;
    bracketed!(list in input);
    let paths = Punctuated::<Path, Token![,]>::parse_terminated(&list)?;
    Ok(paths.into_iter().collect())
}

fn expand_component(component: &ComponentArgs) -> Tokens {
    let ComponentArgs {
        state,
        name,
        version,
        code_change,
        hooks,
        moves,
    } = component;
    let move_count = moves.len();
    let moves = moves.iter().map(|path| named_after(path, moves::constant));
    let hook_count = hooks.len();
    let hooks = hooks.iter().map(|path| {
        let name = path.segments.last().map(|last| last.ident.to_string());
        let name = LitStr::new(&name.unwrap_or_default(), path.span());
        quote! {
            ::neurath::abi::Hook {
                name: ::neurath::abi::Bytes::new(#name.as_bytes()),
                call: {
                    unsafe extern "C" fn hook(
                        call: *mut ::neurath::abi::Call,
                    ) -> ::neurath::abi::Status {
                        // SAFETY: the node's call, with the arguments as its message.
                        unsafe { ::neurath::entry::hook::<#state, _>(call, #path) }
                    }
                    hook
                },
            }
        }
    });
    let count = code_change.len();
    let migrations = code_change
        .iter()
        .map(|path| named_after(path, migration_name));
    quote! {
        const _: () = {
            use ::neurath::pmem::{Pmem, schema};
            const SCHEMA_LEN: usize = schema::encoded_len(<#state as Pmem>::SCHEMA);
            static SCHEMA: [u8; SCHEMA_LEN] = schema::encode(<#state as Pmem>::SCHEMA);
            static MIGRATIONS: [::neurath::abi::Migration; #count] = [#(#migrations),*];
            static HOOKS: [::neurath::abi::Hook; #hook_count] = [#(#hooks),*];
            static MOVES: [::neurath::abi::Move; #move_count] = [#(#moves),*];
            /// What the node reads.
            #[unsafe(no_mangle)]
            pub static NEURATH_COMPONENT: ::neurath::abi::ComponentDescriptor =
                ::neurath::abi::ComponentDescriptor {
                    size: ::core::mem::size_of::<::neurath::abi::ComponentDescriptor>() as u32,
                    abi: ::neurath::abi::ABI_VERSION,
                    panic_strategy: ::neurath::entry::PANIC_STRATEGY,
                    reserved: 0,
                    name: ::neurath::abi::Bytes::new(#name.as_bytes()),
                    version: ::neurath::abi::Bytes::new(#version.as_bytes()),
                    compiler: ::neurath::abi::Bytes::new(::neurath::entry::COMPILER.as_bytes()),
                    schema: ::neurath::abi::Bytes::new(&SCHEMA),
                    fingerprint: <#state as Pmem>::FINGERPRINT,
                    functions: ::neurath::entry::functions::<#state>(),
                    migrations: (&raw const MIGRATIONS).cast(),
                    migration_count: #count,
                    config_change: ::core::option::Option::Some(
                        ::neurath::entry::config_change::<#state>(),
                    ),
                    hooks: (&raw const HOOKS).cast(),
                    hook_count: #hook_count,
                    moves: (&raw const MOVES).cast(),
                    move_count: #move_count,
                    features: ::neurath::entry::FEATURES,
                };
        };
    }
}

/// The constant beside a function that an attribute has made.
fn named_after(function: &Path, name: impl Fn(&Ident) -> Ident) -> Path {
    let mut path = function.clone();
    if let Some(last) = path.segments.last_mut() {
        last.ident = name(&last.ident);
    }
    path
}

/// The conversion with all arguments, whichever its function takes.
fn conversion_name(function: &Ident) -> Ident {
    format_ident!("__neurath_convert_{}", function)
}

fn migration_name(function: &Ident) -> Ident {
    format_ident!("__NEURATH_MIGRATION_{}", function)
}

/// Makes a function a conversion of the state of another version.
///
/// `#[code_change(from = "1.0")]` on `fn(old: Old) -> New`, `fn(old: Old, extra: &Extra) -> New`,
/// or the same with a `Result`; `to` for the way back. The function is called for every value
/// of type `Old`, wherever it is in the state.
#[proc_macro_attribute]
pub fn code_change(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as CodeChangeArgs);
    let function = parse_macro_input!(item as ItemFn);
    expand_code_change(&arguments, &function)
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            quote! { #function #error }
        })
        .into()
}

/// Writes the two conversions between a struct and the one of the version before.
///
/// ```text
/// #[derive(Clone, Copy, Debug, Pmem, CodeChange)]
/// #[change(from = "1.0", old = v1_0::Entry, removed(hits, cost = 7))]
/// #[repr(C)]
/// struct Entry {
///     value: Bytes,
///     #[change(added)]                        // begins with its `Default`
///     expires: u64,
///     #[change(added = extra.now_ms)]         // begins with this; `extra` is an `Extra`
///     accessed: u64,
///     #[change(renamed = number)]             // was called `number`
///     id: u64,
///     #[change(widened = u32)]                // was a `u32`
///     size: u64,
///     #[change(converted(origin_from_1_0, origin_to_1_0))]   // its type changed: by these `code_change`s
///     origin: Origin,
/// }
/// ```
///
/// This gives the functions `entry_from_1_0` and `entry_to_1_0`, for the list in `component!`. All other
/// fields are carried over by their names, in whatever order; the entries of `Map`, `OrderedMap` and
/// `Vector`, and the objects of a `P`, by their own `code_change`. On the way back, a field that was removed gets its `Default`, or the value
/// that is given, and a number that its older type has no room for refuses the way back. A type can be widened to one that has
/// a `From` for it; an `f64` that was an `f32` is rounded to the nearest on the way back.
///
/// A field of the older struct that is neither carried over nor named in `removed` does not compile.
#[proc_macro_derive(CodeChange, attributes(change))]
pub fn derive_code_change(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    derive::expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Makes a function one that takes state out of the component, for a `move_state` of that name.
///
/// `#[move_out("counters")]` on `fn(state: &mut State, tx: &mut Tx<'_>) -> Result<Value>`, or with a third
/// argument `moving: &mut Moving<'_>`. `State` is the state that it works on: that of this version or of
/// another one. What it changes in a state that stays belongs to the upgrade; in one that is left behind it is
/// dropped. `Value` is a `Parcel`, and the same type as that of the `move_in` at the other end.
#[proc_macro_attribute]
pub fn move_out(arguments: TokenStream, item: TokenStream) -> TokenStream {
    moves::attribute(arguments, item, moves::Direction::Out)
}

/// Makes a function one that puts state into the component, for a `move_state` of that name.
///
/// `#[move_in("counters")]` on `fn(state: &mut State, tx: &mut Tx<'_>, value: Value) -> Result<()>`, or with a
/// fourth argument `moving: &Moving<'_>`. `State` is the state after the upgrade, of this version or, for the
/// way back, of another one.
#[proc_macro_attribute]
pub fn move_in(arguments: TokenStream, item: TokenStream) -> TokenStream {
    moves::attribute(arguments, item, moves::Direction::In)
}

struct CodeChangeArgs {
    backward: bool,
    version: LitStr,
}

impl Parse for CodeChangeArgs {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key: Ident = input.parse()?;
        let backward = match key.to_string().as_str() {
            "from" => false,
            "to" => true,
            _ => return Err(Error::new(key.span(), "`from = \"1.0\"` or `to = \"1.0\"`")),
        };
        input.parse::<Token![=]>()?;
        Ok(CodeChangeArgs {
            backward,
            version: input.parse()?,
        })
    }
}

fn expand_code_change(arguments: &CodeChangeArgs, function: &ItemFn) -> syn::Result<Tokens> {
    let CodeChangeArgs { backward, version } = arguments;
    let backward = u32::from(*backward);
    let name = &function.sig.ident;
    let constant = migration_name(name);
    let mut types = function.sig.inputs.iter().map(|input| match input {
        FnArg::Typed(typed) => Ok(&*typed.ty),
        FnArg::Receiver(receiver) => Err(receiver.self_token.span),
    });
    let shape = "a `code_change` is `fn(old: Old) -> New` or `fn(old: Old, extra: &Extra) -> New`";
    let error = || Error::new(name.span(), shape);
    let Some(Ok(old)) = types.next() else {
        return Err(error());
    };
    let call = match (types.next(), types.next()) {
        (None, _) => quote! { #name(old) },
        (Some(Ok(_)), None) => quote! { #name(old, extra) },
        _ => return Err(error()),
    };
    let ReturnType::Type(_, output) = &function.sig.output else {
        return Err(error());
    };
    let (new, result) = match result_of(output) {
        Some(new) => (new, quote! { #call.map_err(::core::convert::Into::into) }),
        None => (&**output, quote! { ::core::result::Result::Ok(#call) }),
    };
    let visibility = &function.vis;
    let conversion = conversion_name(name);
    Ok(quote! {
        #function

        #[doc(hidden)]
        #[allow(dead_code, reason = "a derived conversion may call it")]
        #visibility fn #conversion(
            old: #old,
            extra: &::neurath::Extra<'_>,
        ) -> ::neurath::Result<#new> {
            let _ = extra;
            #result
        }

        #[doc(hidden)]
        #[allow(non_upper_case_globals, reason = "it is called after its function")]
        #visibility const #constant: ::neurath::abi::Migration = {
            unsafe extern "C" fn convert(
                batch: *mut ::neurath::abi::MigrationBatch,
            ) -> ::neurath::abi::Status {
                // SAFETY: the node's batch, made for the types in this migration.
                unsafe {
                    ::neurath::entry::convert_batch::<#old, #new>(batch, #conversion)
                }
            }
            ::neurath::abi::Migration {
                from: <#old as ::neurath::pmem::Pmem>::FINGERPRINT,
                to: <#new as ::neurath::pmem::Pmem>::FINGERPRINT,
                from_size: ::core::mem::size_of::<#old>() as u32,
                to_size: ::core::mem::size_of::<#new>() as u32,
                version: ::neurath::abi::Bytes::new(#version.as_bytes()),
                backward: #backward,
                reserved: 0,
                convert,
            }
        };
    })
}

/// The `T` of a `Result<T>` or `Result<T, E>`.
pub(crate) fn result_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}
