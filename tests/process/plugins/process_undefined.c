/* SPDX-License-Identifier: MIT */
/* A module that can't be opened. */
int pp_test_no_such_symbol(void);
extern int pp_test_no_such_symbol_as_data;
int *process_undefined(void);

int *process_undefined(void)
{
    return &pp_test_no_such_symbol_as_data + pp_test_no_such_symbol();
}
