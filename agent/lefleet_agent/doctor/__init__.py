"""What a person, or Ansible, asks a robot that does not do what it should: one finding a line, each with its remedy."""
