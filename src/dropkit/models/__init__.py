"""Networks, the sites where dropout can act in them, and the policies that say how much of it acts where."""
