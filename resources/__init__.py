"""What the machine has, what a trial asks for, and which worker gets what: inventory, requests, allocation."""
