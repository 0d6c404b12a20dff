"""The impure part: streams and tasks. What is decided stands in the pure files beside this folder."""
