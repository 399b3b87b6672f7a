"""Area by synthesis, and checks of the whole netlist."""
