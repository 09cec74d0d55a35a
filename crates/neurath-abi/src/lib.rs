//! What crosses the dlopen boundary between a Neurath node and a component.
