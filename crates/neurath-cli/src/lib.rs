//! Every command of Neurath.
