"""What goes to one peer."""
