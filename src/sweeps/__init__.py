"""Many runs: their names, launching, what has become of each, what a relaunch does. Imports runs."""
