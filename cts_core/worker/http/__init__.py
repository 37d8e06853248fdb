"""An HTTP client made of the standard library, whose connections another thread can abort."""
