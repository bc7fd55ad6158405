"""What is stored of one problem on one device, and the rules that make it sound."""
