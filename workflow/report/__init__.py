"""What a person looks at: live view, status, HTML report."""
