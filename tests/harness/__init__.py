"""What tests share: harnesses around the parts under test, factories of records, and the folders of this checkout."""
