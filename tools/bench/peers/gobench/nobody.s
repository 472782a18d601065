// SPDX-License-Identifier: MIT
//
// Empty: where there is assembly, Go functions may be without a body.
