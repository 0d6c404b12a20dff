"""The impure part: streams, worker threads, tasks. What is decided stands in the pure files beside this folder."""
