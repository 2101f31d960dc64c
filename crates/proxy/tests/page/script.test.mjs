// What can be known of the script without a browser: it is one module, and its types agree.

import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

test('the types of the script agree', () => {
  const checker = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const here = fileURLToPath(new URL('.', import.meta.url));
  execFileSync(process.execPath, [checker, '--project', here], { stdio: 'inherit' });
});
